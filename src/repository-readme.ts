/** README.txt of every repository: for whoever finds the folder without knowing what it is. */
export const REPOSITORY_README = `This folder is a Timeband repository: encrypted backups of disk images.

  repository.json   what this is; public
  keys/             the passphrase's key slots. Without this folder nothing can be read: keep a copy elsewhere.
  volumes/          one folder a volume, in it one folder a session (a point in time)
  trash/, locks/    work in progress

To look at it:   timeband --repo . volumes
To get an image: timeband --repo . restore NAME@latest image.raw
To verify it:    timeband --repo . check --data
Without the key: timeband --repo . check --no-key

A copy made with "cp -a" or "rsync -aH" is a valid repository. Do not change, rename or remove single files.
`;
