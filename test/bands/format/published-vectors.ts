/** Vectors as the standards print them. */
import type { CipherName } from '../../../bands/format/primitives.ts';

/** FIPS 180-4, the examples of its web page, and a million times "a". */
export const SHA256_VECTORS: readonly { text: string; digest: string }[] = [
  { text: '', digest: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' },
  { text: 'abc', digest: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad' },
  {
    text: 'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
    digest: '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
  },
  { text: 'a'.repeat(1_000_000), digest: 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0' },
];

/** RFC 5869, A.1 to A.3, from the pseudo-random key on. */
export const HKDF_VECTORS: readonly { key: string; info: string; output: string }[] = [
  {
    key: '077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5',
    info: 'f0f1f2f3f4f5f6f7f8f9',
    output: '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
  },
  {
    key: '06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244',
    info: Array.from({ length: 80 }, (_, i) => (0xb0 + i).toString(16)).join(''),
    output:
      'b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09' +
      'da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87',
  },
  {
    key: '19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04',
    info: '',
    output: '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
  },
];

/** NIST SP 800-38A, F.1.5. */
export const ECB_VECTOR: { readonly key: string; readonly plain: string; readonly sealed: string } = {
  key: '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4',
  plain: '6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710',
  sealed: 'f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870b6ed21b99ca6f4f9f153e7b1beafed1d23304b7a39f9f3ff067d8d8f9e24ecc7',
};

/** McGrew and Viega, "The Galois/Counter Mode of Operation" (the GCM of SP 800-38D), the AES-256 cases without associated data. */
export const AEAD_VECTORS: readonly { title: string; cipher: CipherName; key: string; nonce: string; plain: string; sealed: string }[] = [
  {
    title: 'GCM test case 13 (nothing)',
    cipher: 'aes-256-gcm',
    key: '00'.repeat(32),
    nonce: '00'.repeat(12),
    plain: '',
    sealed: '530f8afbc74536b9a963b4f1c4cb738b',
  },
  {
    title: 'GCM test case 14 (one block)',
    cipher: 'aes-256-gcm',
    key: '00'.repeat(32),
    nonce: '00'.repeat(12),
    plain: '00'.repeat(16),
    sealed: 'cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919',
  },
  {
    title: 'GCM test case 15 (four blocks)',
    cipher: 'aes-256-gcm',
    key: 'feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308',
    nonce: 'cafebabefacedbaddecaf888',
    plain: 'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255',
    sealed:
      '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad' +
      'b094dac5d93471bdec1a502270e3cc6c',
  },
];

interface AeadWithData {
  readonly key: string;
  readonly nonce: string;
  readonly data: string;
  readonly text: string;
  readonly sealed: string;
  readonly tag: string;
}

const SUNSCREEN = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";

/** RFC 8439, 2.8.2. Its associated data is bound by the tag alone: the ciphertext is the same without. */
export const RFC_8439: AeadWithData = {
  key: '808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f',
  nonce: '070000004041424344454647',
  data: '50515253c0c1c2c3c4c5c6c7',
  text: SUNSCREEN,
  sealed:
    'd31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36' +
    '92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116',
  tag: '1ae10b594f09e26a7e902ecbd0600691',
};

/** draft-irtf-cfrg-xchacha-03, A.3.1. */
export const XCHACHA_DRAFT: AeadWithData = {
  key: RFC_8439.key,
  nonce: '404142434445464748494a4b4c4d4e4f5051525354555657',
  data: RFC_8439.data,
  text: SUNSCREEN,
  sealed:
    'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452' +
    '2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e',
  tag: 'c0875924c1c7987947deafd8780acf49',
};

/** RFC 7914, section 12, the cases that fit a test. */
export const SCRYPT_VECTORS: readonly { passphrase: string; salt: string; logN: number; r: number; p: number; output: string }[] = [
  {
    passphrase: '',
    salt: '',
    logN: 4,
    r: 1,
    p: 1,
    output: '77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906',
  },
  {
    passphrase: 'password',
    salt: 'NaCl',
    logN: 10,
    r: 8,
    p: 16,
    output: 'fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640',
  },
  {
    passphrase: 'pleaseletmein',
    salt: 'SodiumChloride',
    logN: 14,
    r: 8,
    p: 1,
    output: '7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887',
  },
];
