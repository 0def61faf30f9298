/** README.txt of every repository: for whoever finds the folder without knowing what it is. */
export const REPOSITORY_README = `This folder is a Timeband repository: encrypted backups of disk images.

  repository.json   what this is; public
  keys/             the key slots: what passphrase, key file or recovery phrase opens this. Without this folder nothing can
                    be read: keep a copy elsewhere.
  volumes/          one folder a volume, in it one folder a session (a point in time)
  recover.py        reads all of this without Timeband, see below
  trash/, locks/    work in progress

With Timeband
-------------

To look at it:   timeband --repo . volumes
To get an image: timeband --repo . restore NAME@latest image.raw
To verify it:    timeband --repo . check --data
Without the key: timeband --repo . check --no-key

Without Timeband
----------------

You need the passphrase (or a key file, or a recovery phrase of 24 words), this folder, and a computer with Python 3.8 or newer. On Debian or Ubuntu, as root:

    apt install python3-cryptography python3-zstandard

(Elsewhere: pip install cryptography zstandard. The program "zstd" does in place of the package zstandard.) Then, in
this folder (if others can write to it, take recover.py from a copy that you trust instead: it asks for your passphrase;
"python3 recover.py list FOLDER" reads any folder):

 1. See what there is. It asks for the passphrase; say "--key-file FILE" after "list" if you have a key file instead, or
    "--recovery-phrase" if you have 24 words. (The same goes for the other commands.)

        python3 recover.py list

 2. Restore a disk image to a new file outside of this folder: the newest session, or the one whose id you append.

        python3 recover.py restore NAME /somewhere/image.raw
        python3 recover.py restore NAME@20261121T100000.123Z /somewhere/image.raw

 3. Look into the image (Linux, as root), without changing it:

        mount -o loop,ro /somewhere/image.raw /mnt

    If the disk was in use when it was backed up, mount may refuse to do that read-only: then add ",noload" (ext4) or
    ",norecovery" (XFS) to the options. For an image with partitions: losetup --find --show --read-only --partscan
    /somewhere/image.raw, which prints a device such as /dev/loop0; mount -o ro /dev/loop0p1 /mnt

If something is damaged, restore says what. "--keep-going" restores everything else and lists the byte ranges that are
missing; "--salvage" goes on even if the records of a session are lost. "python3 recover.py verify" reads and proves
everything.

A copy made with "cp -a" or "rsync -aH" is a valid repository. Do not change, rename or remove single files.
`;
