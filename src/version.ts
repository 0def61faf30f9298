/** What this program calls itself in manifests and to people. A test holds it against package.json. */
export const VERSION = '0.1.0';
export const PROGRAM: string = `timeband ${VERSION}`;
