#!/usr/bin/env python3
"""Gets disk images out of a Timeband repository without Timeband.

    recover.py list    [REPO]
    recover.py restore [REPO] VOLUME[@SESSION] OUTPUT
    recover.py verify  [REPO] [VOLUME[@SESSION]]

Needs Python 3.8 or newer with the package "cryptography", and either the package "zstandard" or the program "zstd".
It only reads the repository. Everything that it gives out has been authenticated, exactly as Timeband does it; the one
exception is --salvage, which says so. Written from the description of the format, FORMAT.md; sections of that page are
named in the comments.

What opens a repository: a passphrase (asked for, or --passphrase-file, or TIMEBAND_PASSPHRASE), a key file (--key-file or
TIMEBAND_KEY_FILE), or a recovery phrase of 24 words (--recovery-phrase asks for it; or TIMEBAND_RECOVERY_PHRASE). The
exported key of one volume (--volume-key-file or TIMEBAND_VOLUME_KEY_FILE) opens that volume.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but something is missing or damaged, 10 no repository there,
12 wrong passphrase or none to be had, 13 the repository is damaged, 130 interrupted.
"""

from __future__ import annotations

import argparse
import datetime
import getpass
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import unicodedata
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
except ImportError:
    print('recover: the Python package "cryptography" is missing. Debian: apt install python3-cryptography. '
          "Elsewhere: pip install cryptography", file=sys.stderr)
    sys.exit(1)

try:
    import zstandard
except ImportError:
    zstandard = None

# Timeband puts this script in the place of one with a smaller number when it adds a key slot.
VERSION = 3

FAILED, USAGE, INCOMPLETE, NO_REPOSITORY, NO_KEY, CORRUPT, INTERRUPTED = 1, 2, 3, 10, 12, 13, 130


class Failure(Exception):
    """Ends the program: a message for the user, and the exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class Damage(Exception):
    """Bytes of the repository are not what they must be, or are not there."""


# ---- Geometry (FORMAT.md: Geometry) ------------------------------------------------------------------------------------

CHUNK = 131_072
TAG = 16
PAGE_BANDS = 512
ENTRY = 80
MIN_BAND, MAX_BAND = 262_144, 67_108_864
MIN_PAD = 4096
MAX_INTEGER = 2**53 - 1
# Nothing ever wrote larger files.
MAX_SMALL_FILE, MAX_LABELS, MAX_MANIFEST = 65_536, 1 << 20, 256 << 20
RECORD_OVERHEAD = 52
MAX_SLOTS = 64
ZERO_BLOCK = bytes(4096)
ZERO_CHUNK = bytes(CHUNK)


def is_band_bytes(number: int) -> bool:
    return MIN_BAND <= number <= MAX_BAND and number & (number - 1) == 0


def band_header_bytes(band_bytes: int) -> int:
    return 64 + 4 * (band_bytes // CHUNK)


def padded_header_bytes(band_bytes: int) -> int:
    return band_header_bytes(band_bytes) + 4 + TAG


def max_band_file(band_bytes: int) -> int:
    return padded_header_bytes(band_bytes) + band_bytes // CHUNK * (CHUNK + TAG) + TAG + 4


def divide_up(number: int, by: int) -> int:
    return -(-number // by)


# ---- Strict JSON (FORMAT.md: repository.json) --------------------------------------------------------------------------
#
# A shape is a function that gets a value and says whether it is one of them; a dict of shapes is an object with exactly
# these fields in this order, of which those that end in "?" may be absent; a list of one shape is an array of such values.

Shape = Union[Callable[[Any], bool], Dict[str, Any], List[Any]]


def exactly(expected: Any) -> Callable[[Any], bool]:
    return lambda value: type(value) is type(expected) and value == expected


def either(*shapes: Shape) -> Callable[[Any], bool]:
    return lambda value: any(fits(value, shape) for shape in shapes)


def text(value: Any) -> bool:
    return isinstance(value, str)


def count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_INTEGER


def boolean(value: Any) -> bool:
    return isinstance(value, bool)


def hex_digits(digits: int) -> Callable[[Any], bool]:
    pattern = re.compile("[0-9a-f]{%d}" % digits)
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def time(value: Any) -> bool:
    """2026-11-21T10:00:00.000Z, and a time that exists."""
    return isinstance(value, str) and is_time(value, TIME_FORM, "%Y-%m-%dT%H:%M:%S.%fZ")


SESSION_FORM = re.compile(r"\d{8}T\d{6}\.\d{3}Z", re.ASCII)
TIME_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def session_id(value: Any) -> bool:
    """20261121T100000.123Z, and a time that exists."""
    return isinstance(value, str) and is_time(value, SESSION_FORM, "%Y%m%dT%H%M%S.%fZ")


def is_time(value: str, pattern: "re.Pattern[str]", form: str) -> bool:
    if pattern.fullmatch(value) is None:
        return False
    try:
        datetime.datetime.strptime(value, form)
    except ValueError:
        return False
    return True


def volume_name(value: Any) -> bool:
    """FORMAT.md: Volume."""
    if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "surrogatepass")) <= 255:
        return False
    if any(unicodedata.category(c) in ("Cc", "Cs") or c in "=@" for c in value):
        return False
    return not any(part in ("", ".", "..", "latest") or SESSION_FORM.fullmatch(part) for part in value.split("/"))


def tag(value: Any) -> bool:
    """FORMAT.md: Labels. Letters that this Python's Unicode tables do not know yet are taken for letters."""
    if not isinstance(value, str) or not 1 <= len(value) <= 100:
        return False
    alphanumeric = [unicodedata.category(c)[0] in "LN" or unicodedata.category(c) == "Cn" for c in value]
    if not alphanumeric[0] or not all(known or c in "._-" for known, c in zip(alphanumeric, value)):
        return False
    return value != "latest" and not session_id(value) and re.match(r"\d{4}-\d\d(?!\d)", value, re.ASCII) is None


def domain_name(value: Any) -> bool:
    """FORMAT.md: Volume."""
    return isinstance(value, str) and tag(value[:1]) and tag("x" + value[1:])


def padding(value: Any) -> bool:
    """FORMAT.md: Padding."""
    return value == "padme" or count(value) and MIN_PAD <= value <= MAX_BAND and value & (value - 1) == 0


def fits(value: Any, shape: Shape) -> bool:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        wanted = {key.rstrip("?"): shape[key] for key in shape if key[-1] != "?" or key[:-1] in value}
        return list(value) == list(wanted) and all(fits(value[key], wanted[key]) for key in wanted)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(item, shape[0]) for item in value)
    return shape(value)


def encode_json(value: Any, indent: Optional[int]) -> bytes:
    """The bytes that JSON.stringify gives, with a newline: half surrogates escaped, nothing else beyond need."""
    separators = (",", ":") if indent is None else None
    written = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    return (re.sub("[\ud800-\udfff]", lambda half: "\\u%04x" % ord(half.group()), written) + "\n").encode("utf-8")


def refuse_number(_: str) -> Any:
    raise ValueError("not an integer")


def decode_json(data: bytes, shape: Shape, what: str, indent: Optional[int] = None) -> Dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), parse_float=refuse_number, parse_constant=refuse_number)
        if encode_json(value, indent) != data:
            raise Damage(f"{what}: not in the one form in which its JSON may be written")
    except (ValueError, RecursionError) as error:
        raise Damage(f"{what}: not JSON ({error})") from error
    if not fits(value, shape):
        raise Damage(f"{what}: its fields are not those of this format")
    return value


# ---- Primitives --------------------------------------------------------------------------------------------------------


def expand(key: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869, section 2.3)."""
    result, block, counter = b"", b"", 1
    while len(result) < length:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        result += block
        counter += 1
    return result[:length]


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The subkey of XChaCha20 (draft-irtf-cfrg-xchacha-03, section 2.2); `nonce` has 16 bytes."""
    s = list(struct.unpack("<4I8I4I", b"expand 32-byte k" + key + nonce))

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for turn_d, turn_b in ((16, 12), (8, 7)):
            s[a] = (s[a] + s[b]) & 0xFFFFFFFF
            s[d] ^= s[a]
            s[d] = (s[d] << turn_d | s[d] >> (32 - turn_d)) & 0xFFFFFFFF
            s[c] = (s[c] + s[d]) & 0xFFFFFFFF
            s[b] ^= s[c]
            s[b] = (s[b] << turn_b | s[b] >> (32 - turn_b)) & 0xFFFFFFFF

    for _ in range(10):
        quarter(0, 4, 8, 12), quarter(1, 5, 9, 13), quarter(2, 6, 10, 14), quarter(3, 7, 11, 15)
        quarter(0, 5, 10, 15), quarter(1, 6, 11, 12), quarter(2, 7, 8, 13), quarter(3, 4, 9, 14)
    return struct.pack("<8I", *s[0:4], *s[12:16])


def open_xchacha(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """XChaCha20-Poly1305 with a nonce of 24 bytes; raises InvalidTag."""
    subkey = hchacha20(key, nonce[:16])
    return ChaCha20Poly1305(subkey).decrypt(bytes(4) + nonce[16:], sealed, associated)


CIPHERS = {"aes-256-gcm": AESGCM, "chacha20-poly1305": ChaCha20Poly1305}


# ---- Files -------------------------------------------------------------------------------------------------------------


class Folder:
    """A folder of the repository, by descriptor. Gives only regular files and folders that lie in it: no links, no devices."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor = descriptor
        self.path = path

    @staticmethod
    def root(path: str) -> Folder:
        return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY), path)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    __del__ = close

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def where(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _open(self, name: str, is_kind: Callable[[int], bool], kind: str, flags: int) -> int:
        try:
            if not is_kind(os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mode):
                raise Damage(f"{self.where(name)}: is not a {kind}")
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags,
                                 dir_fd=self.descriptor)
        except FileNotFoundError as error:
            raise Damage(f"{self.where(name)}: is missing") from error
        except OSError as error:
            raise Damage(f"{self.where(name)}: cannot be opened ({error.strerror})") from error
        if not is_kind(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Damage(f"{self.where(name)}: is not a {kind}")
        return descriptor

    def folder(self, name: str) -> Folder:
        return Folder(self._open(name, stat.S_ISDIR, "folder", os.O_DIRECTORY), self.where(name))

    def has(self, name: str) -> bool:
        return self.identity(name) is not None

    def identity(self, name: str) -> Optional[Tuple[int, int]]:
        try:
            found = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def names(self) -> List[str]:
        try:
            return sorted(name for name in os.listdir(self.descriptor) if not name.startswith(".tmp-"))
        except OSError as error:
            raise Damage(f"{self.path}: cannot be listed ({error.strerror})") from error

    def read(self, name: str, limit: int) -> bytes:
        """All of a regular file, which may have `limit` bytes at most."""
        descriptor = self._open(name, stat.S_ISREG, "regular file", 0)
        try:
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise Damage(f"{self.where(name)}: is too long ({size} bytes)")
            data = os.read(descriptor, size)
            while len(data) < size:
                more = os.read(descriptor, size - len(data))
                if not more:
                    raise Damage(f"{self.where(name)}: ends early")
                data += more
            return data
        except OSError as error:
            raise Damage(f"{self.where(name)}: cannot be read ({error.strerror})") from error
        finally:
            os.close(descriptor)


# ---- What the user offers -----------------------------------------------------------------------------------------------


class Offer(NamedTuple):
    """A secret: what kind of key slot it opens, and the bytes that scrypt gets (FORMAT.md: Key slot)."""

    kind: str
    secret: bytes


def offered_by(arguments: argparse.Namespace) -> Union[Offer, bytes]:
    """What opens the repository: an Offer, or the content of a volume key file. Options go before variables."""
    given = [name for name in SOURCES if getattr(arguments, name)]
    if len(given) > 1:
        options = " and ".join("--" + name.replace("_", "-") for name in given)
        raise Failure(f"{options} exclude each other: one key is enough.", USAGE)
    if given:
        return SOURCES[given[0]].offer(getattr(arguments, given[0]))
    if os.environ.get("TIMEBAND_PASSPHRASE"):
        return passphrase_offer(os.environ["TIMEBAND_PASSPHRASE"])
    for source in SOURCES.values():
        if os.environ.get(source.variable):
            return source.offer(os.environ[source.variable])
    return passphrase_offer(ask("Passphrase: ", "No passphrase: set TIMEBAND_PASSPHRASE, or run this in a terminal."))


def ask(prompt: str, otherwise: str) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return getpass.getpass(prompt)
    except (OSError, EOFError) as error:
        raise Failure(otherwise, NO_KEY) from error


def read_secret(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SMALL_FILE + 1)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", NO_KEY) from error


def without_newline(data: bytes) -> bytes:
    """One newline at the end is not part of a passphrase or key."""
    if data.endswith(b"\r\n"):
        return data[:-2]
    return data[:-1] if data.endswith(b"\n") else data


def passphrase_offer(passphrase: str) -> Offer:
    try:
        return Offer("passphrase", unicodedata.normalize("NFC", passphrase).encode("utf-8"))
    except UnicodeError as error:
        raise Failure("The passphrase is not valid UTF-8.", NO_KEY) from error


def passphrase_file_offer(path: str) -> Offer:
    try:
        return passphrase_offer(without_newline(read_secret(path)).decode("utf-8"))
    except UnicodeError as error:
        raise Failure("The passphrase is not valid UTF-8.", NO_KEY) from error


def key_file_offer(path: str) -> Offer:
    content = read_secret(path)
    secret = without_newline(content)
    if len(secret) < 32 or len(content) > MAX_SMALL_FILE:
        raise Failure(f"{path}: is no key file; those have 32 to 65536 bytes.", NO_KEY)
    return Offer("key-file", secret)


def recovery_phrase_offer(given: Union[str, bool]) -> Offer:
    """`given` is the phrase, or True: ask for it."""
    if given is True:
        given = ask("Recovery phrase (24 words, not shown): ",
                    "No recovery phrase: set TIMEBAND_RECOVERY_PHRASE, or run this in a terminal.")
    return Offer("recovery-phrase", phrase_entropy(str(given)))


def phrase_entropy(phrase: str) -> bytes:
    """The 32 bytes of 24 words of BIP-39's English list: 11 bits a word; behind them the first 8 bits of their SHA-256."""
    known = {word: place for place, word in enumerate(BIP39_WORDS.split())}
    words = unicodedata.normalize("NFKD", phrase).lower().split()
    unknown = [str(place) for place, word in enumerate(words, 1) if word not in known]
    if unknown:
        raise Failure(f"The recovery phrase was not typed right: word {', '.join(unknown)} of it is not in the list of words.", NO_KEY)
    if len(words) != 24:
        raise Failure(f"The recovery phrase was not typed right: it has {len(words)} words instead of 24.", NO_KEY)
    number = 0
    for word in words:
        number = number << 11 | known[word]
    entropy = (number >> 8).to_bytes(32, "big")
    if hashlib.sha256(entropy).digest()[0] != number & 0xFF:
        raise Failure("The recovery phrase was not typed right: its checksum is wrong, so a word was exchanged for another, "
                      "or their order.", NO_KEY)
    return entropy


class Source(NamedTuple):
    """An option: the variable that stands for it, and what makes an offer of its value."""

    variable: str
    offer: Callable[[Any], Union[Offer, bytes]]


SOURCES: Dict[str, Source] = {
    "passphrase_file": Source("TIMEBAND_PASSPHRASE_FILE", passphrase_file_offer),
    "key_file": Source("TIMEBAND_KEY_FILE", key_file_offer),
    "recovery_phrase": Source("TIMEBAND_RECOVERY_PHRASE", recovery_phrase_offer),
    "volume_key_file": Source("TIMEBAND_VOLUME_KEY_FILE", read_secret),
}


# ---- Key slots (FORMAT.md: Key slot) -----------------------------------------------------------------------------------


def scrypt_kdf(value: Any) -> bool:
    """Asks neither for less than is worth anything, nor for more than a machine should give."""
    if not fits(value, {"name": exactly("scrypt"), "logN": count, "r": count, "p": count, "salt": hex_digits(64)}):
        return False
    log_n, r, p = value["logN"], value["r"], value["p"]
    return 10 <= log_n <= 21 and 1 <= r <= 32 and 1 <= p <= 16 and log_n < 16 * r and (128 * r << log_n) <= 2**31


SLOT_KINDS = ("passphrase", "key-file", "recovery-phrase")
WRAP_FIELDS = {"created": time, "kdf": scrypt_kdf, "nonce": hex_digits(48), "wrapped": hex_digits(96)}


def check_json_sum(value: Dict[str, Any], what: str) -> None:
    """FORMAT.md: Key slot, "checksum"."""
    body = {name: field for name, field in value.items() if name != "checksum"}
    if value.get("checksum") != "%08x" % zlib.crc32(encode_json(body, 2)[:-1]):
        raise Damage(f"{what}: is damaged (its checksum is wrong)")


def read_slot(folder: Folder, name: str) -> Dict[str, Any]:
    what = folder.where(name)
    data = folder.read(name, MAX_SMALL_FILE)
    found = decode_json(data, lambda value: isinstance(value, dict), what, indent=2)
    slot = exactly(name[: -len(".json")])
    if found.get("version") == 1:
        return decode_json(data, {"format": exactly("timeband-key-slot"), "version": exactly(1), "slot": slot,
                                  "kind": exactly("passphrase"), **WRAP_FIELDS}, what, indent=2)
    if not isinstance(found.get("kind"), str) or found["kind"] not in SLOT_KINDS:
        raise Damage(f"{what}: a kind of key slot that this script does not know ({found.get('kind')!r})")
    check_json_sum(found, what)
    return decode_json(data, {"format": exactly("timeband-key-slot"), "version": exactly(2), "repository": hex_digits(64),
                              "slot": slot, "kind": text, **WRAP_FIELDS, "checksum": text}, what, indent=2)


def unwrap_slot(slot: Dict[str, Any], config_digest: bytes, secret: bytes) -> bytes:
    """The 32 bytes that the slot wraps; raises InvalidTag if the secret is not the slot's."""
    kdf = slot["kdf"]
    salt = bytes.fromhex(kdf["salt"])
    slot_key = Scrypt(salt=salt, length=32, n=1 << kdf["logN"], r=kdf["r"], p=kdf["p"]).derive(secret)
    label, kind = (b"timeband/v1/key-slot\0", b"") if slot["version"] == 1 else (b"timeband/v2/key-slot\0", slot["kind"].encode())
    associated = label + config_digest + bytes.fromhex(slot["slot"]) + kind
    return open_xchacha(slot_key, bytes.fromhex(slot["nonce"]), bytes.fromhex(slot["wrapped"]), associated)


class MasterKey:
    """Opens every volume."""

    def __init__(self, master: bytes) -> None:
        self._master = master

    def opens(self, _: str) -> bool:
        return True

    def volume_key(self, volume: bytes) -> bytes:
        return expand(self._master, b"timeband/v1/volume\0" + volume)

    def domain_key(self, domain: bytes) -> bytes:
        """The band key of a key domain."""
        return expand(expand(self._master, b"timeband/v1/domain\0" + domain), b"timeband/v1/bands\0" + domain)


class ExportedKey:
    """Opens one volume (FORMAT.md: Exported volume key)."""

    def __init__(self, data: bytes, config_digest: bytes) -> None:
        what = "the volume key file"
        try:
            key = decode_json(data, {"format": exactly("timeband-volume-key"), "version": exactly(1), "repository": hex_digits(64),
                                     "volume": hex_digits(32), "key": hex_digits(64), "checksum": text}, what, indent=2)
            check_json_sum(key, what)
        except Damage as error:
            raise Failure(f"This is no key of a volume, or a damaged one: {error}", NO_KEY) from error
        if key["repository"] != config_digest.hex():
            raise Failure("The volume key is of another repository, or repository.json was changed since it was exported.", NO_KEY)
        self._volume: str = key["volume"]
        self._key = bytes.fromhex(key["key"])

    def opens(self, volume: str) -> bool:
        return volume == self._volume

    def volume_key(self, volume: bytes) -> bytes:
        return self._key

    def domain_key(self, domain: bytes) -> bytes:
        raise Damage("the volume's record is lost, and without it a volume key does not open the bands of a key domain")


def open_slots(root: Folder, config_digest: bytes, offer: Offer) -> MasterKey:
    """Tries the slots in turn. A damaged one hinders nobody whose secret opens another."""
    broken: List[str] = []
    foreign: List[str] = []
    kinds: List[str] = []
    with root.folder("keys") as folder:
        names = [name for name in folder.names() if re.fullmatch(r"[0-9a-f]{16}\.json", name)]
        for name in names[:MAX_SLOTS]:
            try:
                slot = read_slot(folder, name)
                if slot.get("repository", config_digest.hex()) != config_digest.hex():
                    foreign.append(f"{folder.where(name)}: was made for another repository, or repository.json was changed")
                    continue
                kinds.append(slot["kind"])
                key = unwrap_slot(slot, config_digest, offer.secret) if slot["kind"] == offer.kind else bytes(32)
                if key != bytes(32):
                    return MasterKey(key)
            except InvalidTag:
                continue
            except Damage as error:
                broken.append(str(error))
            except MemoryError:
                broken.append(f"{folder.where(name)}: needs more memory to be opened than there is")
    for message in foreign + broken:
        complain(message)
    if offer.kind in kinds:
        raise Failure(f"Wrong {offer.kind.replace('-', ' ')} (or repository.json or the key slot was changed).", NO_KEY)
    if kinds:
        raise Failure(f"No key slot takes a {offer.kind.replace('-', ' ')}; there are slots for: {', '.join(sorted(set(kinds)))}.", NO_KEY)
    raise Failure("There is no key slot in keys/ that can be used: without one nothing can be read.",
                  NO_KEY if foreign and not broken else CORRUPT)


# ---- Keys of a volume, names, sealed records ---------------------------------------------------------------------------


class VolumeKeys:
    """FORMAT.md: Keys, Names, Sealed record."""

    def __init__(self, volume_key: bytes, volume: bytes, cipher: str) -> None:
        self.volume = volume
        self.cipher = cipher
        self.records = expand(volume_key, b"timeband/v1/records\0" + volume)
        self.bands = expand(volume_key, b"timeband/v1/bands\0" + volume)
        self.domain = volume
        self._names = expand(volume_key, b"timeband/v1/names\0" + volume)

    def name(self, kind: int, number: int) -> str:
        encryptor = Cipher(algorithms.AES(self._names), modes.ECB()).encryptor()
        return (encryptor.update(bytes([kind]) + bytes(7) + struct.pack(">Q", number)) + encryptor.finalize()).hex()

    def number(self, kind: int, name: str) -> Optional[int]:
        """The number in a name, or None: not a name of this kind and volume."""
        if re.fullmatch("[0-9a-f]{32}", name) is None:
            return None
        decryptor = Cipher(algorithms.AES(self._names), modes.ECB()).decryptor()
        block = decryptor.update(bytes.fromhex(name)) + decryptor.finalize()
        number = struct.unpack(">Q", block[8:])[0]
        return number if block[:8] == bytes([kind]) + bytes(7) and number <= MAX_INTEGER else None

    def open_record(self, data: bytes, kind: bytes, place: bytes, what: str) -> bytes:
        if len(data) < RECORD_OVERHEAD or data[:8] != b"TBRECD\0\1":
            raise Damage(f"{what}: is not a sealed record")
        if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
            raise Damage(f"{what}: its checksum is wrong")
        associated = b"timeband/v1/record\0" + kind + b"\0" + self.volume + place
        try:
            return open_xchacha(self.records, data[8:32], data[32:-4], associated)
        except InvalidTag as error:
            raise Damage(f"{what}: its seal is wrong (altered, or the file of another place)") from error


BAND, PAGE = 1, 2


# ---- Band file (FORMAT.md: Band file) ----------------------------------------------------------------------------------


class Entry(NamedTuple):
    """FORMAT.md: Index page."""

    salt: bytes
    length: int
    fingerprint: bytes
    digest: bytes


class SealedBand:
    """A band file whose header is proven; its chunks are opened one at a time. Version 2 has padding (FORMAT.md: Padding)."""

    def __init__(self, data: bytes, keys: VolumeKeys, band_bytes: int, entry: Optional[Entry], what: str) -> None:
        padded = data[:8] == b"TBBAND\0\2"
        start = padded_header_bytes(band_bytes) if padded else band_header_bytes(band_bytes)
        if len(data) < start + 4:
            raise Damage(f"{what}: is too short ({len(data)} bytes)")
        if not padded and data[:8] != b"TBBAND\0\1":
            raise Damage(f"{what}: is not a band file")
        salt, commitment, table = data[8:32], data[32:64], data[64:start]
        if entry is not None and salt != entry.salt:
            raise Damage(f"{what}: is an older or other band (another salt)")
        context = keys.cipher.encode() + b"\0" + salt + keys.domain
        if padded:
            table = self._open_table(table, expand(keys.bands, b"timeband/v2/band-table\0" + context + commitment, 44), keys.cipher, what)
        info = (b"timeband/v2/band\0" if padded else b"timeband/v1/band\0") + context + table
        derived = expand(keys.bands, info, 76)
        if not hmac.compare_digest(derived[44:], commitment):
            raise Damage(f"{what}: its header is altered (wrong commitment)")
        self.what = what
        self._data = memoryview(data)
        self._aead = CIPHERS[keys.cipher](derived[:32])
        self._base_nonce = int.from_bytes(derived[32:44], "big")
        self._count = band_bytes // CHUNK
        self.chunks = self._read_table(table, start)
        expected = entry.length if entry is not None else self._end
        self.has_length = len(data) == expected == self._end
        self.has_checksum = zlib.crc32(self._data[:-4]) == struct.unpack("<I", data[-4:])[0]

    @staticmethod
    def _open_table(sealed: bytes, secrets: bytes, cipher: str, what: str) -> bytes:
        try:
            return CIPHERS[cipher](secrets[:32]).decrypt(secrets[32:], sealed, None)
        except InvalidTag as error:
            raise Damage(f"{what}: its header is altered (its table does not open)") from error

    def _read_table(self, table: bytes, offset: int) -> List[Tuple[int, int, bool]]:
        """Where each chunk lies: offset, length, whether raw."""
        chunks = []
        words = struct.unpack("<%dI" % (len(table) // 4), table)
        for word in words[: self._count]:
            length, raw = word & 0x7FFFFFFF, word >> 31 == 1
            if raw and length != CHUNK + TAG or not raw and length != 0 and not TAG < length <= CHUNK + TAG:
                raise Damage(f"{self.what}: its table holds an impossible length")
            chunks.append((offset, length, raw))
            offset += length
        self._padding = (offset, words[self._count]) if len(words) > self._count else (offset, 0)
        if len(words) > self._count and not TAG <= self._padding[1] < 1 << 31:
            raise Damage(f"{self.what}: its table holds an impossible length")
        self._end = sum(self._padding) + 4
        return chunks

    def has_padding(self) -> bool:
        """Whether the padding is what it must be: zeros, sealed behind the last chunk."""
        offset, length = self._padding
        if length == 0:
            return True
        nonce = (self._base_nonce ^ self._count).to_bytes(12, "big")
        return self._data[offset : offset + length] == self._aead.encrypt(nonce, bytes(length - TAG), None)

    def open_chunk(self, number: int) -> bytes:
        """The sealed plaintext: a frame, or the chunk if it is raw. Raises InvalidTag."""
        offset, length, _ = self.chunks[number]
        if offset + length > len(self._data) - 4:
            raise InvalidTag
        nonce = (self._base_nonce ^ number).to_bytes(12, "big")
        return self._aead.decrypt(nonce, self._data[offset : offset + length].tobytes(), None)


# ---- zstd --------------------------------------------------------------------------------------------------------------


def read_frame(frame: bytes) -> Optional[int]:
    """The content size that the header of one zstd frame states, if it does (RFC 8878, 3.1.1); raises Damage if the bytes
    are not one frame and nothing else."""
    if len(frame) < 6 or frame[:4] != b"\x28\xb5\x2f\xfd" or frame[4] & 8:
        raise Damage("not a zstd frame")
    flags = frame[4]
    size_flag, single = flags >> 6, flags >> 5 & 1
    position = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    size_bytes = (single, 2, 4, 8)[size_flag]
    size = int.from_bytes(frame[position : position + size_bytes], "little") + (256 if size_flag == 1 else 0)
    position += size_bytes
    last = 0
    while not last:
        header = int.from_bytes(frame[position : position + 3], "little")
        if position + 3 > len(frame) or header >> 1 & 3 == 3:
            raise Damage("a broken zstd frame")
        last = header & 1
        position += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
    if position + (4 if flags & 4 else 0) != len(frame):
        raise Damage("not one whole zstd frame")
    return size if size_bytes else None


def is_chunk_frame(frame: bytes) -> bool:
    try:
        return read_frame(frame) in (None, CHUNK)
    except Damage:
        return False


class ModuleZstd:
    """zstd by the Python package "zstandard"."""

    batch_bytes = 1 << 20

    def __init__(self) -> None:
        self._local = threading.local()

    def decompress(self, frames: Sequence[bytes]) -> List[Optional[bytes]]:
        """For each frame its chunk, or None if it is not one frame of one chunk."""
        return [self._one(frame) for frame in frames]

    def _one(self, frame: bytes) -> Optional[bytes]:
        if not hasattr(self._local, "decompressor"):
            self._local.decompressor = zstandard.ZstdDecompressor()
        try:
            chunk = self._local.decompressor.decompress(frame, max_output_size=CHUNK) if is_chunk_frame(frame) else b""
        except zstandard.ZstdError:
            return None
        return chunk if len(chunk) == CHUNK else None


class ProgramZstd:
    """zstd by the program: many frames for each start of it, since one start takes as long as a band."""

    batch_bytes = 16 << 20

    def __init__(self, program: str) -> None:
        self._command = [program, "-d", "-c", "-q"]

    def decompress(self, frames: Sequence[bytes]) -> List[Optional[bytes]]:
        """For each frame its chunk, or None if it is not one frame of one chunk."""
        chunks: List[Optional[bytes]] = [None] * len(frames)
        # A frame that states its size cannot give another one, so these may share one stream.
        stated = [i for i, frame in enumerate(frames) if is_chunk_frame(frame) and read_frame(frame) == CHUNK]
        unstated = [[i] for i, frame in enumerate(frames) if is_chunk_frame(frame) and read_frame(frame) is None]
        for group in [stated, *unstated]:
            self._decompress_group(frames, group, chunks)
        return chunks

    def _decompress_group(self, frames: Sequence[bytes], group: List[int], chunks: List[Optional[bytes]]) -> None:
        if not group:
            return
        output = self._run(b"".join(frames[i] for i in group))
        if output is not None and len(output) == CHUNK * len(group):
            for place, i in enumerate(group):
                chunks[i] = output[place * CHUNK : (place + 1) * CHUNK]
        elif len(group) > 1:
            middle = len(group) // 2
            self._decompress_group(frames, group[:middle], chunks)
            self._decompress_group(frames, group[middle:], chunks)

    def _run(self, data: bytes) -> Optional[bytes]:
        """What the program makes of `data`, or None if it fails."""
        if not hasattr(os, "memfd_create"):
            done = subprocess.run(self._command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            return done.stdout if done.returncode == 0 else None
        # Files in memory: no plaintext on a disk, and no pipes, which Python serves slowly.
        with open(os.memfd_create("sealed"), "w+b", buffering=0) as source, \
             open(os.memfd_create("plain"), "w+b", buffering=0) as target:
            write_all(source.fileno(), data, 0)
            done = subprocess.run(self._command, stdin=source, stdout=target, stderr=subprocess.DEVNULL)
            if done.returncode != 0:
                return None
            target.seek(0)
            return target.readall()


Zstd = Union[ModuleZstd, ProgramZstd]


def find_zstd() -> Zstd:
    if zstandard is not None:
        return ModuleZstd()
    program = shutil.which("zstd")
    if program is None:
        raise Failure('Neither the Python package "zstandard" nor the program "zstd" is there. Debian: apt install zstd')
    return ProgramZstd(program)


# ---- Repository, volumes, sessions -------------------------------------------------------------------------------------

REPOSITORY_SHAPE = {"format": exactly("timeband-repository"), "version": exactly(1), "id": hex_digits(32),
                    "cipher": lambda value: isinstance(value, str) and value in CIPHERS, "created": time}
VOLUME_SHAPE = {"format": exactly("timeband-volume"), "version": exactly(1), "name": volume_name,
                "bandBytes": lambda value: count(value) and is_band_bytes(value), "created": time, "note": text, "pad?": padding,
                "domain?": {"name": domain_name, "id": hex_digits(32), "bandKey": hex_digits(64)}}
MANIFEST_SHAPE = {
    "format": exactly("timeband-session"), "version": exactly(1), "session": session_id, "volume": hex_digits(32),
    "sizeBytes": lambda value: count(value) and value > 0 and value % 512 == 0,
    "bandBytes": lambda value: count(value) and is_band_bytes(value), "started": time, "finished": time,
    "base": either(exactly(None), {"session": session_id, "manifest": hex_digits(64)}),
    "pages": [hex_digits(64)], "bitmap": hex_digits(64),
    "source": {"kind": text, "location": text, "host": text},
    "totals": {"bands": count, "zeroBands": count, "changedBands": count, "storedBytes": count, "writtenBytes": count},
    "program": text, "pad?": padding, "domain?": hex_digits(32),
}
LABELS_SHAPE = {"format": exactly("timeband-labels"), "version": exactly(1), "tags": [tag], "note": text,
                "protected": boolean, "verified": either(exactly(None), {"at": time, "data": boolean})}


def decode_volume(plain: bytes, what: str) -> Dict[str, Any]:
    """FORMAT.md: Volume."""
    return with_possible_pad(decode_json(plain, VOLUME_SHAPE, what), what)


def with_possible_pad(record: Dict[str, Any], what: str) -> Dict[str, Any]:
    if count(record.get("pad")) and record["pad"] > record["bandBytes"]:
        raise Damage(f"{what}: its bands are padded to more than their size")
    return record


def decode_manifest(plain: bytes, what: str) -> Dict[str, Any]:
    """FORMAT.md: Manifest."""
    manifest = with_possible_pad(decode_json(plain, MANIFEST_SHAPE, what), what)
    if manifest["base"] is not None and manifest["base"]["session"] >= manifest["session"]:
        raise Damage(f"{what}: its base is not older than itself")
    bands = divide_up(manifest["sizeBytes"], manifest["bandBytes"])
    totals = manifest["totals"]
    if totals["bands"] != bands or totals["zeroBands"] > bands or totals["changedBands"] > bands:
        raise Damage(f"{what}: its totals are impossible")
    if len(manifest["pages"]) != divide_up(bands, PAGE_BANDS):
        raise Damage(f"{what}: has another number of index pages than its size asks for")
    return manifest


def decode_labels(plain: bytes, what: str) -> Dict[str, Any]:
    """FORMAT.md: Labels."""
    labels = decode_json(plain, LABELS_SHAPE, what)
    if labels["tags"] != sorted(set(labels["tags"]), key=lambda one: one.encode("utf-16-be")):
        raise Damage(f"{what}: its tags are not sorted, or not distinct")
    return labels


class Repository:
    def __init__(self, path: str, arguments: argparse.Namespace) -> None:
        try:
            self.root = Folder.root(path)
        except OSError as error:
            raise Failure(f"{path}: no repository there ({error.strerror})", NO_REPOSITORY) from error
        if not self.root.has("repository.json"):
            raise Failure(f"{path}: no repository there (no repository.json)", NO_REPOSITORY)
        data = self.root.read("repository.json", MAX_SMALL_FILE)
        what = self.root.where("repository.json")
        refuse_newer(data, what)
        self.cipher: str = decode_json(data, REPOSITORY_SHAPE, what, indent=2)["cipher"]
        digest, offer = hashlib.sha256(data).digest(), offered_by(arguments)
        self.key = open_slots(self.root, digest, offer) if isinstance(offer, Offer) else ExportedKey(offer, digest)

    def volumes(self) -> List[Volume]:
        """All volumes, by name; those whose record is damaged last."""
        volumes = self.root.folder("volumes")
        found = [Volume(self, volumes, name) for name in volumes.names() if hex_digits(32)(name) and self.key.opens(name)]
        return sorted(found, key=lambda volume: (volume.damage is not None, volume.title))

    def volume(self, wanted: str) -> Volume:
        """The volume of this name, or else of this id."""
        volumes = self.volumes()
        for matches in ([v for v in volumes if v.damage is None and v.title == wanted], [v for v in volumes if v.id == wanted]):
            if len(matches) == 1:
                return matches[0]
            if len(matches) > 1:
                ids = ", ".join(volume.id for volume in matches)
                raise Failure(f"{len(matches)} volumes are named {printable(wanted)}: give one of their ids, {ids}")
        damaged = [volume for volume in volumes if volume.damage is not None]
        for volume in damaged:
            complain(f"volume {volume.id}: {volume.damage}")
        raise Failure(f"There is no volume {printable(wanted)}: see the command list."
                      + (" It may be one of the damaged ones: give an id." if damaged else ""), CORRUPT if damaged else FAILED)


def refuse_newer(data: bytes, what: str) -> None:
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict) and found.get("format") == "timeband-repository" and count(found.get("version")) \
            and found["version"] > 1:
        raise Failure(f"{what}: format version {found['version']}; this script reads version 1 only.")


class Volume:
    def __init__(self, repository: Repository, volumes: Folder, name: str) -> None:
        self.id = name
        self.keys = VolumeKeys(repository.key.volume_key(bytes.fromhex(name)), bytes.fromhex(name), repository.cipher)
        self.damage: Optional[Damage] = None
        self.band_bytes: Optional[int] = None
        self.title = name
        self.note = ""
        self._volumes = volumes
        self._key = repository.key
        try:
            self._read_record()
        except Damage as error:
            self.damage = error

    def _read_record(self) -> None:
        with self.open() as folder:
            what = folder.where("volume")
            plain = self.keys.open_record(folder.read("volume", MAX_SMALL_FILE), b"volume", b"", what)
            record = decode_volume(plain, what)
        if "domain" in record:
            self.keys.domain = bytes.fromhex(record["domain"]["id"])
            self.keys.bands = bytes.fromhex(record["domain"]["bandKey"])
        self.title, self.band_bytes, self.note = record["name"], record["bandBytes"], record["note"]

    def enter_domain(self, domain: bytes, what: str) -> None:
        """A manifest's key domain is that of the volume's record; where that is lost, it is known from here."""
        if domain == self.keys.domain:
            return
        if self.damage is None:
            raise Damage(f"{what}: is of another key domain than its volume")
        self.keys.domain, self.keys.bands = domain, self._key.domain_key(domain)

    def open(self) -> Folder:
        return self._volumes.folder(self.id)

    def session_ids(self) -> List[str]:
        """Oldest first."""
        with self.open() as folder, folder.folder("sessions") as sessions:
            return [name for name in sessions.names() if session_id(name)]

    def session(self, wanted: str) -> Session:
        """By id, by the beginning of an id, or `latest`."""
        ids = self.session_ids()
        if not ids:
            raise Failure(f"Volume {printable(self.title)} has no session.")
        matches = ids[-1:] if wanted == "latest" else [name for name in ids if wanted and name.startswith(wanted)]
        if len(matches) == 1:
            return Session(self, matches[0])
        if not matches:
            raise Failure(f"Volume {printable(self.title)} has no session {printable(wanted)}. There are: {', '.join(ids)}")
        raise Failure(f"Several sessions begin with {printable(wanted)}: {', '.join(matches)}")


class Session:
    def __init__(self, volume: Volume, name: str) -> None:
        self.volume = volume
        self.id = name
        with volume.open() as folder, folder.folder("sessions") as sessions:
            self.folder = sessions.folder(name)
        self._bands: Optional[Folder] = None

    @property
    def title(self) -> str:
        return f"{self.volume.title}@{self.id}"

    def close(self) -> None:
        self.folder.close()
        if self._bands is not None:
            self._bands.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def bands(self) -> Folder:
        if self._bands is None:
            self._bands = self.folder.folder("bands")
        return self._bands

    def manifest(self) -> Dict[str, Any]:
        what = self.folder.where("manifest")
        manifest = decode_manifest(self._record("manifest", MAX_MANIFEST), what)
        if manifest["session"] != self.id or manifest["volume"] != self.volume.id:
            raise Damage(f"{what}: is the manifest of another session")
        if self.volume.band_bytes not in (None, manifest["bandBytes"]):
            raise Damage(f"{what}: has another band size than its volume")
        self.volume.enter_domain(bytes.fromhex(manifest.get("domain", self.volume.id)), what)
        return manifest

    def manifest_digest(self) -> str:
        return hashlib.sha256(self.folder.read("manifest", MAX_MANIFEST)).hexdigest()

    def labels(self) -> Optional[Dict[str, Any]]:
        return decode_labels(self._record("labels", MAX_LABELS), self.folder.where("labels")) if self.folder.has("labels") else None

    def bitmap(self, manifest: Dict[str, Any]) -> bytes:
        what = self.folder.where("bitmap")
        bands = divide_up(manifest["sizeBytes"], manifest["bandBytes"])
        bits = self._record("bitmap", divide_up(bands, 8) + RECORD_OVERHEAD, manifest["bitmap"])
        if len(bits) != divide_up(bands, 8) or bands % 8 and bits[-1] >> bands % 8:
            raise Damage(f"{what}: has another length than its session, or bits beyond its end")
        return bits

    def _record(self, kind: str, limit: int, digest: Optional[str] = None) -> bytes:
        data = self.folder.read(kind, limit)
        what = self.folder.where(kind)
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise Damage(f"{what}: is not the file that the manifest names")
        return self.volume.keys.open_record(data, kind.encode(), self.id.encode(), what)

    def page(self, number: int, digest: Optional[str], bands: Optional[int]) -> List[Optional[Entry]]:
        """The entries of an index page, None for a band of zeros. `digest` pins the page; `bands` is their exact number."""
        name = self.volume.keys.name(PAGE, number)
        with self.folder.folder("index") as folder:
            what = folder.where(name)
            data = folder.read(name, RECORD_OVERHEAD + ENTRY * PAGE_BANDS)
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise Damage(f"{what}: is an older or other index page than the manifest names")
        plain = self.volume.keys.open_record(data, b"page", struct.pack(">Q", number), what)
        if len(plain) % ENTRY or bands is not None and len(plain) != ENTRY * bands:
            raise Damage(f"{what}: has another number of entries than its session")
        return [self._decode_entry(plain[at : at + ENTRY], what) for at in range(0, len(plain), ENTRY)]

    def _decode_entry(self, data: bytes, what: str) -> Optional[Entry]:
        if data == bytes(ENTRY):
            return None
        length, flags = struct.unpack("<II", data[24:32])
        band_bytes = self.volume.band_bytes or MAX_BAND
        if flags != 1 or not band_header_bytes(MIN_BAND) + 4 <= length <= max_band_file(band_bytes):
            raise Damage(f"{what}: holds an impossible entry")
        return Entry(data[:24], length, data[32:48], data[48:80])

    def numbers(self, folder_name: str, kind: int) -> List[int]:
        """The numbers in the names of the files of `bands` or `index`."""
        with self.folder.folder(folder_name) as folder:
            numbers = (self.volume.keys.number(kind, name) for name in folder.names())
            return sorted(number for number in numbers if number is not None)


# ---- Layouts: what a session consists of -------------------------------------------------------------------------------


class Lost(NamedTuple):
    """The index does not say what this band is."""

    reason: str


class ByName(NamedTuple):
    """Only the name of the file says that this is the band: authentic data of this volume, of whatever place and age."""


Wanted = Union[Entry, Lost, ByName]
Item = Optional[Wanted]


class Layout(NamedTuple):
    size_bytes: int
    band_bytes: int
    page: Callable[[int], List[Item]]
    warnings: List[str]

    @property
    def bands(self) -> int:
        return divide_up(self.size_bytes, self.band_bytes)

    def items(self) -> Iterator[Tuple[int, Item]]:
        for page in range(divide_up(self.bands, PAGE_BANDS)):
            yield from enumerate(self.page(page), page * PAGE_BANDS)


def page_bands(bands: int, page: int) -> int:
    return min(PAGE_BANDS, bands - page * PAGE_BANDS)


def read_layout(session: Session, manifest: Dict[str, Any]) -> Layout:
    """By the manifest and its pinned pages. A page that cannot be read makes its bands Lost."""
    bands = divide_up(manifest["sizeBytes"], manifest["bandBytes"])

    def page(number: int) -> List[Item]:
        try:
            return list(session.page(number, manifest["pages"][number], page_bands(bands, number)))
        except Damage as error:
            return [Lost(str(error))] * page_bands(bands, number)

    return Layout(manifest["sizeBytes"], manifest["bandBytes"], page, [])


def salvage_layout(session: Session, size_bytes: Optional[int]) -> Layout:
    """By whatever is left: the manifest, or index pages that nothing pins, or only the names of the band files."""
    try:
        manifest = session.manifest()
    except Damage as error:
        return salvage_without_manifest(session, size_bytes, str(error))
    pinned = read_layout(session, manifest)
    warnings: List[str] = []

    def page(number: int) -> List[Item]:
        items = pinned.page(number)
        if items and isinstance(items[0], Lost):
            warnings.append(f"{items[0].reason}; its bands are taken by their names")
            return by_name(session, number, len(items))
        return items

    return Layout(pinned.size_bytes, pinned.band_bytes, page, warnings)


def by_name(session: Session, page: int, bands: int) -> List[Item]:
    missing = Lost("no file: a band of zeros or a lost one, and no index to say which")
    first = page * PAGE_BANDS
    names = (session.volume.keys.name(BAND, number) for number in range(first, first + bands))
    try:
        return [ByName() if session.bands().has(name) else missing for name in names]
    except Damage as error:
        return [Lost(str(error))] * bands


def salvage_without_manifest(session: Session, size_bytes: Optional[int], reason: str) -> Layout:
    warnings = [f"{reason}; nothing proves which index pages, and so which bands, belong to this session"]
    try:
        numbers = session.numbers("bands", BAND)
    except Damage as error:
        raise Failure(f"{session.title}: nothing is left of its bands ({error}).", CORRUPT) from error
    band_bytes = session.volume.band_bytes or infer_band_bytes(session, numbers)
    last_band = max(numbers, default=-1)
    pages = salvage_pages(session, warnings)
    listed = max((number * PAGE_BANDS + len(entries) for number, entries in pages.items()), default=0)
    bands = max(listed, last_band + 1)
    if size_bytes is None:
        if bands == 0:
            raise Failure(f"{session.title}: nothing is left of it.", CORRUPT)
        size_bytes = bands * band_bytes
        warnings.append(f"the size is not known: {size_bytes} bytes are what the bands reach to, the image may have been "
                        "longer by zeros, or shorter by a part of a band; give --size BYTES if you know it")
    total = divide_up(size_bytes, band_bytes)

    def page(number: int) -> List[Item]:
        entries = pages.get(number)
        if entries is None or len(entries) < page_bands(total, number):
            return by_name(session, number, page_bands(total, number))
        return list(entries[: page_bands(total, number)])

    return Layout(size_bytes, band_bytes, page, warnings)


def salvage_pages(session: Session, warnings: List[str]) -> Dict[int, List[Optional[Entry]]]:
    pages: Dict[int, List[Optional[Entry]]] = {}
    try:
        numbers = session.numbers("index", PAGE)
    except Damage as error:
        warnings.append(str(error))
        return pages
    for number in numbers:
        try:
            pages[number] = session.page(number, None, None)
        except Damage as error:
            warnings.append(f"{error}; its bands are taken by their names")
    return pages


def infer_band_bytes(session: Session, numbers: Sequence[int]) -> int:
    """The band size, from the first band file whose header proves one."""
    for number in numbers:
        name = session.volume.keys.name(BAND, number)
        band_bytes = MIN_BAND
        while band_bytes <= MAX_BAND:
            try:
                SealedBand(session.bands().read(name, max_band_file(MAX_BAND)), session.volume.keys, band_bytes, None, name)
                return band_bytes
            except Damage:
                band_bytes *= 2
    raise Failure(f"{session.title}: the volume record is lost, and no band file tells the band size.", CORRUPT)


# ---- Reading bands, many at a time -------------------------------------------------------------------------------------


class Missing(NamedTuple):
    """Bytes of the volume that could not be had."""

    offset: int
    length: int
    reason: str


def merge(missing: Sequence[Missing]) -> List[Missing]:
    """Joins neighbours that are missing for one reason."""
    merged: List[Missing] = []
    for item in sorted(missing):
        last = merged[-1] if merged else None
        if last is not None and last.offset + last.length == item.offset and last.reason == item.reason:
            merged[-1] = Missing(last.offset, last.length + item.length, last.reason)
        else:
            merged.append(item)
    return merged


class Band:
    """One band on its way: what was opened, what is still compressed, what is missing."""

    def __init__(self, number: int, layout: Layout) -> None:
        self.number = number
        self.offset = number * layout.band_bytes
        self.length = min(layout.band_bytes, layout.size_bytes - self.offset)
        self.entry: Optional[Entry] = None
        self.what = ""
        self.chunks: List[Optional[bytes]] = []
        self.frames: List[int] = []
        self.faults: List[Missing] = []
        # What is wrong with the file, though it may keep nothing from being read.
        self.notes: List[str] = []
        self.has_length = True

    def lose(self, reason: str) -> None:
        self.chunks = []
        self.frames = []
        self.faults = [Missing(self.offset, self.length, reason)]

    def lose_chunk(self, chunk: int, reason: str) -> None:
        self.chunks[chunk] = None
        offset = chunk * CHUNK
        if offset < self.length:
            self.faults.append(Missing(self.offset + offset, min(CHUNK, self.length - offset), f"{reason} (chunk {chunk})"))
        else:
            self.notes.append(f"{reason} (chunk {chunk}, behind the end of the volume)")


class BandReader:
    """Reads, proves and decompresses bands of one session; called from many threads."""

    def __init__(self, session: Session, layout: Layout, zstd: Zstd) -> None:
        self._session = session
        self._bands = None
        self._layout = layout
        self._zstd = zstd
        try:
            self._bands = session.bands()
        except Damage as error:
            self._damage = str(error)

    def read(self, items: Sequence[Tuple[int, Wanted]], vouches: bool = False) -> List[Band]:
        """`vouches`: look at padding, too, which holds no data."""
        bands = [self._open(number, item, vouches) for number, item in items]
        self._decompress(bands)
        for band in bands:
            self._prove(band)
        return bands

    def prove(self, items: Sequence[Tuple[int, Wanted]]) -> List[Band]:
        """As read, but keeps no data."""
        bands = self.read(items, vouches=True)
        for band in bands:
            band.chunks = []
        return bands

    def _open(self, number: int, item: Wanted, vouches: bool) -> Band:
        band = Band(number, self._layout)
        if isinstance(item, Lost) or self._bands is None:
            band.lose(item.reason if isinstance(item, Lost) else self._damage)
            return band
        name = self._session.volume.keys.name(BAND, number)
        band.entry = item if isinstance(item, Entry) else None
        band.what = self._bands.where(name)
        try:
            data = self._bands.read(name, max_band_file(self._layout.band_bytes))
            sealed = SealedBand(data, self._session.volume.keys, self._layout.band_bytes, band.entry, band.what)
        except Damage as error:
            band.lose(str(error))
            return band
        band.has_length = sealed.has_length
        if not sealed.has_length:
            band.notes.append(f"{band.what}: has {len(data)} bytes, which is not its length")
        elif not sealed.has_checksum:
            band.notes.append(f"{band.what}: its checksum is wrong")
        elif vouches and not sealed.has_padding():
            band.notes.append(f"{band.what}: its padding is altered")
        self._open_chunks(band, sealed)
        return band

    def _open_chunks(self, band: Band, sealed: SealedBand) -> None:
        for chunk, (_, length, raw) in enumerate(sealed.chunks):
            band.chunks.append(ZERO_CHUNK)
            if length == 0:
                continue
            try:
                band.chunks[chunk] = sealed.open_chunk(chunk)
                if not raw:
                    band.frames.append(chunk)
            except InvalidTag:
                band.lose_chunk(chunk, f"{band.what}: altered or cut off")

    def _decompress(self, bands: Sequence[Band]) -> None:
        places = [(band, chunk) for band in bands for chunk in band.frames]
        frames = [band.chunks[chunk] or b"" for band, chunk in places]
        for (band, chunk), plain in zip(places, self._zstd.decompress(frames) if frames else []):
            band.chunks[chunk] = plain
            if plain is None:
                band.lose_chunk(chunk, f"{band.what}: not one zstd frame of {CHUNK} bytes")

    def _prove(self, band: Band) -> None:
        """Compares the digest of a band that is whole. Of others, each chunk that opened is proven by its own seal."""
        if band.entry is None or not band.chunks or any(chunk is None for chunk in band.chunks):
            return
        digest = hashlib.sha256()
        for chunk in band.chunks:
            digest.update(chunk or b"")
        if digest.digest() != band.entry.digest:
            band.lose(f"{band.what}: its data has another digest than the index names")


def read_bands(
    items: Iterator[Tuple[int, Wanted]], read: Callable[..., List[Band]], batch_bands: int
) -> Iterator[Band]:
    """Runs `read` over batches on all cores, a bounded number ahead, and gives the bands in order."""
    workers = max(1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16))
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[List[Band]]] = deque()
    try:
        batch: List[Tuple[int, Wanted]] = []
        for item in items:
            batch.append(item)
            if len(batch) == batch_bands:
                waiting.append(pool.submit(read, batch))
                batch = []
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        if batch:
            waiting.append(pool.submit(read, batch))
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        pool.shutdown(wait=True)


# ---- restore -----------------------------------------------------------------------------------------------------------


def write_all(descriptor: int, data: Union[bytes, memoryview], offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def write_sparse(descriptor: int, data: bytes, offset: int) -> None:
    """Writes what is not zero, in blocks of 4 KiB."""
    if data is ZERO_CHUNK:
        return
    start: Optional[int] = None
    for at in range(0, len(data), len(ZERO_BLOCK)):
        is_zero = data.startswith(ZERO_BLOCK, at)
        if start is None and not is_zero:
            start = at
        elif start is not None and is_zero:
            write_all(descriptor, memoryview(data)[start:at], offset + start)
            start = None
    if start is not None:
        write_all(descriptor, memoryview(data)[start:], offset + start)


class Output:
    """A new file: under a temporary name in the same folder until it is complete, and never over another."""

    def __init__(self, path: str, size_bytes: int) -> None:
        self.path = path
        self._temporary = os.path.join(os.path.dirname(path) or ".", f".tmp-recover-{secrets.token_hex(8)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(self._temporary, flags, 0o600)
        try:
            os.ftruncate(self.descriptor, size_bytes)
        except OSError:
            self.discard()
            raise

    def write_band(self, band: Band) -> None:
        for number, chunk in enumerate(band.chunks):
            offset = number * CHUNK
            if chunk is not None and offset < band.length:
                write_sparse(self.descriptor, chunk[: band.length - offset] if band.length - offset < CHUNK else chunk,
                             band.offset + offset)

    def finish(self) -> None:
        os.fsync(self.descriptor)
        try:
            os.link(self._temporary, self.path, follow_symlinks=False)
        except FileExistsError:
            raise Failure(f"{self.path}: exists by now; nothing was overwritten.") from None
        except OSError:
            # A file system without hard links.
            if os.path.lexists(self.path):
                raise Failure(f"{self.path}: exists by now; nothing was overwritten.") from None
            os.rename(self._temporary, self.path)
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        except OSError:
            pass
        finally:
            os.close(folder)

    def discard(self) -> None:
        os.close(self.descriptor)
        try:
            os.unlink(self._temporary)
        except FileNotFoundError:
            pass


def check_output(path: str, repository: Repository) -> None:
    if os.path.lexists(path):
        raise Failure(f"{path}: exists. Restore to a new name.")
    parent = os.path.realpath(os.path.dirname(path) or ".")
    if not os.path.isdir(parent):
        raise Failure(f"{parent}: no such folder.")
    root = os.path.realpath(repository.root.path)
    if os.path.commonpath([parent, root]) == root:
        raise Failure(f"{path}: lies inside the repository. Restore to another folder.")


def restore(repository: Repository, volume: str, session_name: str, arguments: argparse.Namespace) -> int:
    check_output(arguments.output, repository)
    zstd = find_zstd()
    with repository.volume(volume).session(session_name) as session:
        found = session.volume
        if found.damage is not None and not arguments.salvage:
            raise Failure(f"{found.damage}. --salvage goes on without it.", CORRUPT)
        if arguments.salvage:
            layout = salvage_layout(session, arguments.size)
        else:
            layout = strict_layout(session)
        output = Output(arguments.output, layout.size_bytes)
        try:
            missing, notes = fill(output, session, layout, zstd, arguments.keep_going or arguments.salvage)
            output.finish()
        finally:
            output.discard()
    warnings = ([str(found.damage)] if found.damage is not None else []) + layout.warnings
    return report_restore(session, layout, arguments, missing, warnings, notes)


def strict_layout(session: Session) -> Layout:
    try:
        return read_layout(session, session.manifest())
    except Damage as error:
        raise Failure(f"{error}. --salvage restores what the other files still tell.", CORRUPT) from error


def fill(
    output: Output, session: Session, layout: Layout, zstd: Zstd, keep_going: bool
) -> Tuple[List[Missing], List[str]]:
    reader = BandReader(session, layout, zstd)

    def read_and_write(items: Sequence[Tuple[int, Wanted]]) -> List[Band]:
        bands = reader.read(items)
        for band in bands:
            if not keep_going:
                refuse_damage(band)
            output.write_band(band)
            band.chunks = []
        return bands

    missing: List[Missing] = []
    notes: List[str] = []
    progress = Progress(layout.size_bytes)
    stored = ((number, item) for number, item in layout.items() if item is not None)
    for band in read_bands(stored, read_and_write, max(1, zstd.batch_bytes // layout.band_bytes)):
        missing += band.faults
        notes += band.notes
        progress.show(band.offset + band.length)
    progress.end()
    return missing, notes


def refuse_damage(band: Band) -> None:
    """A wrong checksum alone is a warning: every byte of the band was proven without it."""
    if not band.faults and band.has_length:
        return
    reason = band.faults[0].reason if band.faults else band.notes[0]
    raise Failure(f"Bytes {band.offset} to {band.offset + band.length - 1} are damaged: {reason}. "
                  "--keep-going restores everything else.", CORRUPT)


def report_restore(
    session: Session, layout: Layout, arguments: argparse.Namespace, missing: List[Missing], warnings: List[str],
    notes: List[str]
) -> int:
    for note in notes:
        complain(f"{note}; what was restored of it is authentic")
    for warning in warnings:
        complain(warning)
    if missing:
        complain("These byte ranges are missing, and are zeros in the output (offset, length, reason):")
        for item in merge(missing):
            print(f"missing {item.offset} {item.length} {printable(item.reason)}", file=sys.stderr)
    print(f"{printable(arguments.output)}: {layout.size_bytes} bytes of {printable(session.title)}")
    if arguments.salvage:
        complain("*** SALVAGED, NOT VERIFIED AS A WHOLE: every chunk is authentic data of this volume, but nothing proves "
                 "that all of them belong to this place and this session. Treat the image with suspicion. ***")
    return INCOMPLETE if missing or warnings or notes or arguments.salvage else 0


# ---- verify ------------------------------------------------------------------------------------------------------------


class Verifier:
    def __init__(self, zstd: Zstd) -> None:
        self._zstd = zstd
        # What was found wrong with a band file, by what its index entry asks of it and which file it is.
        self._verdicts: Dict[Any, Band] = {}
        self.findings = 0
        self.sessions = 0
        self.files = 0

    def find(self, title: str, message: str) -> None:
        self.findings += 1
        print(f"damaged {printable(title)}: {printable(message)}")

    def session(self, session: Session) -> None:
        self.sessions += 1
        try:
            manifest = session.manifest()
        except Damage as error:
            self.find(session.title, str(error))
            return
        try:
            session.labels()
        except Damage as error:
            self.find(session.title, str(error))
        self._bitmap(session, manifest)
        self._bands(session, read_layout(session, manifest))

    def _bands(self, session: Session, layout: Layout) -> None:
        reader = BandReader(session, layout, self._zstd)
        keys: Dict[int, Any] = {}
        known: List[Band] = []
        items = self._unread(session, layout, keys, known)
        progress = Progress(layout.size_bytes)
        found: List[Band] = []
        for band in read_bands(items, reader.prove, max(1, self._zstd.batch_bytes // layout.band_bytes)):
            self.files += band.what != ""
            self._verdicts[keys[band.number]] = band
            found.append(band)
            progress.show(band.offset + band.length)
        progress.end()
        for fault in merge([fault for band in found + known for fault in band.faults]):
            self.find(session.title, f"bytes {fault.offset} to {fault.offset + fault.length - 1}: {fault.reason}")
        for note in (note for band in found + known for note in band.notes):
            self.find(session.title, note)

    def _unread(self, session: Session, layout: Layout, keys: Dict[int, Any], known: List[Band]) -> Iterator[Tuple[int, Wanted]]:
        """A file that sessions share is read once, and its damage told for each of them."""
        for number, item in layout.items():
            if item is None:
                continue
            try:
                identity = session.bands().identity(session.volume.keys.name(BAND, number))
            except Damage:
                identity = None
            key = (session.id if identity is None else identity, session.volume.id, number, item)
            if key in self._verdicts:
                known.append(self._verdicts[key])
            else:
                keys[number] = key
                yield number, item

    def _bitmap(self, session: Session, manifest: Dict[str, Any]) -> None:
        """The bitmap must say exactly which bands differ from the base; where the base is gone, nothing can be said."""
        try:
            bits = session.bitmap(manifest)
            base = self._base(session, manifest)
        except Damage as error:
            self.find(session.title, str(error))
            return
        if base is None:
            return
        for page in range(len(manifest["pages"])):
            pairs = zip(read_layout(session, manifest).page(page), base(page))
            for number, (item, before) in enumerate(pairs, page * PAGE_BANDS):
                if isinstance(item, Lost) or isinstance(before, Lost):
                    continue  # told elsewhere
                is_changed = digest_of(item) != digest_of(before)
                if is_changed != bool(bits[number // 8] >> number % 8 & 1):
                    self.find(session.title, f"its bitmap is wrong about band {number}")
                    return

    def _base(self, session: Session, manifest: Dict[str, Any]) -> Optional[Callable[[int], List[Item]]]:
        """The pages of the base, filled up with zero bands; None if it is not there or cannot be read."""
        empty: List[Item] = [None] * PAGE_BANDS
        if manifest["base"] is None:
            return lambda page: empty
        name = manifest["base"]["session"]
        if name not in session.volume.session_ids():
            return None
        try:
            base = Session(session.volume, name)
            older = base.manifest()
        except Damage:
            return None
        if base.manifest_digest() != manifest["base"]["manifest"]:
            raise Damage(f"its base {name} is not the session that it was made from")
        layout = read_layout(base, older)
        return lambda page: ((layout.page(page) if page < len(older["pages"]) else []) + empty)[:PAGE_BANDS]


def digest_of(item: Item) -> Optional[bytes]:
    return item.digest if isinstance(item, Entry) else None


def verify(repository: Repository, wanted: Optional[str], session_name: Optional[str]) -> int:
    verifier = Verifier(find_zstd())
    volumes = repository.volumes() if wanted is None else [repository.volume(wanted)]
    for volume in volumes:
        if volume.damage is not None:
            verifier.find(f"volume {volume.id}", str(volume.damage))
        try:
            names = volume.session_ids() if session_name is None else [volume.session(session_name).id]
        except Damage as error:
            verifier.find(volume.title, str(error))
            continue
        for name in names:
            try:
                with Session(volume, name) as session:
                    verifier.session(session)
            except Damage as error:
                verifier.find(f"{volume.title}@{name}", str(error))
    print(f"{verifier.sessions} sessions, {verifier.files} band files read, {verifier.findings} findings")
    return INCOMPLETE if verifier.findings else 0


# ---- list --------------------------------------------------------------------------------------------------------------


def list_repository(repository: Repository) -> int:
    status = 0
    for volume in repository.volumes():
        print(f"{printable(volume.title)}   (id {volume.id}, bands of {volume.band_bytes or '?'} bytes)"
              + (f"   {printable(volume.note)}" if volume.note else ""))
        if volume.damage is not None:
            print(f"    DAMAGED: {printable(str(volume.damage))}")
            status = INCOMPLETE
        try:
            names = volume.session_ids()
        except Damage as error:
            print(f"    DAMAGED: {printable(str(error))}")
            status = INCOMPLETE
            continue
        for name in names:
            try:
                print(f"    {name}   {describe(volume, name)}")
            except Damage as error:
                print(f"    {name}   DAMAGED: {printable(str(error))}")
                status = INCOMPLETE
    return status


def describe(volume: Volume, name: str) -> str:
    with Session(volume, name) as session:
        manifest = session.manifest()
        labels = session.labels()
    parts = [f"{manifest['sizeBytes']} bytes"]
    if labels is not None:
        parts += [printable(tag) for tag in labels["tags"]]
        parts += [printable(labels["note"])] if labels["note"] else []
    return "   ".join(parts)


# ---- BIP-39's English words, in their order ------------------------------------------------------------------------------

BIP39_WORDS = """
abandon ability able about above absent absorb abstract absurd abuse access accident account accuse achieve acid acoustic
acquire across act action actor actress actual adapt add addict address adjust admit adult advance advice aerobic affair
afford afraid again age agent agree ahead aim air airport aisle alarm album alcohol alert alien all alley allow almost
alone alpha already also alter always amateur amazing among amount amused analyst anchor ancient anger angle angry animal
ankle announce annual another answer antenna antique anxiety any apart apology appear apple approve april arch arctic area
arena argue arm armed armor army around arrange arrest arrive arrow art artefact artist artwork ask aspect assault asset
assist assume asthma athlete atom attack attend attitude attract auction audit august aunt author auto autumn average
avocado avoid awake aware away awesome awful awkward axis baby bachelor bacon badge bag balance balcony ball bamboo banana
banner bar barely bargain barrel base basic basket battle beach bean beauty because become beef before begin behave behind
believe below belt bench benefit best betray better between beyond bicycle bid bike bind biology bird birth bitter black
blade blame blanket blast bleak bless blind blood blossom blouse blue blur blush board boat body boil bomb bone bonus book
boost border boring borrow boss bottom bounce box boy bracket brain brand brass brave bread breeze brick bridge brief
bright bring brisk broccoli broken bronze broom brother brown brush bubble buddy budget buffalo build bulb bulk bullet
bundle bunker burden burger burst bus business busy butter buyer buzz cabbage cabin cable cactus cage cake call calm
camera camp can canal cancel candy cannon canoe canvas canyon capable capital captain car carbon card cargo carpet carry
cart case cash casino castle casual cat catalog catch category cattle caught cause caution cave ceiling celery cement
census century cereal certain chair chalk champion change chaos chapter charge chase chat cheap check cheese chef cherry
chest chicken chief child chimney choice choose chronic chuckle chunk churn cigar cinnamon circle citizen city civil claim
clap clarify claw clay clean clerk clever click client cliff climb clinic clip clock clog close cloth cloud clown club
clump cluster clutch coach coast coconut code coffee coil coin collect color column combine come comfort comic common
company concert conduct confirm congress connect consider control convince cook cool copper copy coral core corn correct
cost cotton couch country couple course cousin cover coyote crack cradle craft cram crane crash crater crawl crazy cream
credit creek crew cricket crime crisp critic crop cross crouch crowd crucial cruel cruise crumble crunch crush cry crystal
cube culture cup cupboard curious current curtain curve cushion custom cute cycle dad damage damp dance danger daring dash
daughter dawn day deal debate debris decade december decide decline decorate decrease deer defense define defy degree
delay deliver demand demise denial dentist deny depart depend deposit depth deputy derive describe desert design desk
despair destroy detail detect develop device devote diagram dial diamond diary dice diesel diet differ digital dignity
dilemma dinner dinosaur direct dirt disagree discover disease dish dismiss disorder display distance divert divide divorce
dizzy doctor document dog doll dolphin domain donate donkey donor door dose double dove draft dragon drama drastic draw
dream dress drift drill drink drip drive drop drum dry duck dumb dune during dust dutch duty dwarf dynamic eager eagle
early earn earth easily east easy echo ecology economy edge edit educate effort egg eight either elbow elder electric
elegant element elephant elevator elite else embark embody embrace emerge emotion employ empower empty enable enact end
endless endorse enemy energy enforce engage engine enhance enjoy enlist enough enrich enroll ensure enter entire entry
envelope episode equal equip era erase erode erosion error erupt escape essay essence estate eternal ethics evidence evil
evoke evolve exact example excess exchange excite exclude excuse execute exercise exhaust exhibit exile exist exit exotic
expand expect expire explain expose express extend extra eye eyebrow fabric face faculty fade faint faith fall false fame
family famous fan fancy fantasy farm fashion fat fatal father fatigue fault favorite feature february federal fee feed
feel female fence festival fetch fever few fiber fiction field figure file film filter final find fine finger finish fire
firm first fiscal fish fit fitness fix flag flame flash flat flavor flee flight flip float flock floor flower fluid flush
fly foam focus fog foil fold follow food foot force forest forget fork fortune forum forward fossil foster found fox
fragile frame frequent fresh friend fringe frog front frost frown frozen fruit fuel fun funny furnace fury future gadget
gain galaxy gallery game gap garage garbage garden garlic garment gas gasp gate gather gauge gaze general genius genre
gentle genuine gesture ghost giant gift giggle ginger giraffe girl give glad glance glare glass glide glimpse globe gloom
glory glove glow glue goat goddess gold good goose gorilla gospel gossip govern gown grab grace grain grant grape grass
gravity great green grid grief grit grocery group grow grunt guard guess guide guilt guitar gun gym habit hair half hammer
hamster hand happy harbor hard harsh harvest hat have hawk hazard head health heart heavy hedgehog height hello helmet
help hen hero hidden high hill hint hip hire history hobby hockey hold hole holiday hollow home honey hood hope horn
horror horse hospital host hotel hour hover hub huge human humble humor hundred hungry hunt hurdle hurry hurt husband
hybrid ice icon idea identify idle ignore ill illegal illness image imitate immense immune impact impose improve impulse
inch include income increase index indicate indoor industry infant inflict inform inhale inherit initial inject injury
inmate inner innocent input inquiry insane insect inside inspire install intact interest into invest invite involve iron
island isolate issue item ivory jacket jaguar jar jazz jealous jeans jelly jewel job join joke journey joy judge juice
jump jungle junior junk just kangaroo keen keep ketchup key kick kid kidney kind kingdom kiss kit kitchen kite kitten kiwi
knee knife knock know lab label labor ladder lady lake lamp language laptop large later latin laugh laundry lava law lawn
lawsuit layer lazy leader leaf learn leave lecture left leg legal legend leisure lemon lend length lens leopard lesson
letter level liar liberty library license life lift light like limb limit link lion liquid list little live lizard load
loan lobster local lock logic lonely long loop lottery loud lounge love loyal lucky luggage lumber lunar lunch luxury
lyrics machine mad magic magnet maid mail main major make mammal man manage mandate mango mansion manual maple marble
march margin marine market marriage mask mass master match material math matrix matter maximum maze meadow mean measure
meat mechanic medal media melody melt member memory mention menu mercy merge merit merry mesh message metal method middle
midnight milk million mimic mind minimum minor minute miracle mirror misery miss mistake mix mixed mixture mobile model
modify mom moment monitor monkey monster month moon moral more morning mosquito mother motion motor mountain mouse move
movie much muffin mule multiply muscle museum mushroom music must mutual myself mystery myth naive name napkin narrow
nasty nation nature near neck need negative neglect neither nephew nerve nest net network neutral never news next nice
night noble noise nominee noodle normal north nose notable note nothing notice novel now nuclear number nurse nut oak obey
object oblige obscure observe obtain obvious occur ocean october odor off offer office often oil okay old olive olympic
omit once one onion online only open opera opinion oppose option orange orbit orchard order ordinary organ orient original
orphan ostrich other outdoor outer output outside oval oven over own owner oxygen oyster ozone pact paddle page pair
palace palm panda panel panic panther paper parade parent park parrot party pass patch path patient patrol pattern pause
pave payment peace peanut pear peasant pelican pen penalty pencil people pepper perfect permit person pet phone photo
phrase physical piano picnic picture piece pig pigeon pill pilot pink pioneer pipe pistol pitch pizza place planet plastic
plate play please pledge pluck plug plunge poem poet point polar pole police pond pony pool popular portion position
possible post potato pottery poverty powder power practice praise predict prefer prepare present pretty prevent price
pride primary print priority prison private prize problem process produce profit program project promote proof property
prosper protect proud provide public pudding pull pulp pulse pumpkin punch pupil puppy purchase purity purpose purse push
put puzzle pyramid quality quantum quarter question quick quit quiz quote rabbit raccoon race rack radar radio rail rain
raise rally ramp ranch random range rapid rare rate rather raven raw razor ready real reason rebel rebuild recall receive
recipe record recycle reduce reflect reform refuse region regret regular reject relax release relief rely remain remember
remind remove render renew rent reopen repair repeat replace report require rescue resemble resist resource response
result retire retreat return reunion reveal review reward rhythm rib ribbon rice rich ride ridge rifle right rigid ring
riot ripple risk ritual rival river road roast robot robust rocket romance roof rookie room rose rotate rough round route
royal rubber rude rug rule run runway rural sad saddle sadness safe sail salad salmon salon salt salute same sample sand
satisfy satoshi sauce sausage save say scale scan scare scatter scene scheme school science scissors scorpion scout scrap
screen script scrub sea search season seat second secret section security seed seek segment select sell seminar senior
sense sentence series service session settle setup seven shadow shaft shallow share shed shell sheriff shield shift shine
ship shiver shock shoe shoot shop short shoulder shove shrimp shrug shuffle shy sibling sick side siege sight sign silent
silk silly silver similar simple since sing siren sister situate six size skate sketch ski skill skin skirt skull slab
slam sleep slender slice slide slight slim slogan slot slow slush small smart smile smoke smooth snack snake snap sniff
snow soap soccer social sock soda soft solar soldier solid solution solve someone song soon sorry sort soul sound soup
source south space spare spatial spawn speak special speed spell spend sphere spice spider spike spin spirit split spoil
sponsor spoon sport spot spray spread spring spy square squeeze squirrel stable stadium staff stage stairs stamp stand
start state stay steak steel stem step stereo stick still sting stock stomach stone stool story stove strategy street
strike strong struggle student stuff stumble style subject submit subway success such sudden suffer sugar suggest suit
summer sun sunny sunset super supply supreme sure surface surge surprise surround survey suspect sustain swallow swamp
swap swarm swear sweet swift swim swing switch sword symbol symptom syrup system table tackle tag tail talent talk tank
tape target task taste tattoo taxi teach team tell ten tenant tennis tent term test text thank that theme then theory
there they thing this thought three thrive throw thumb thunder ticket tide tiger tilt timber time tiny tip tired tissue
title toast tobacco today toddler toe together toilet token tomato tomorrow tone tongue tonight tool tooth top topic
topple torch tornado tortoise toss total tourist toward tower town toy track trade traffic tragic train transfer trap
trash travel tray treat tree trend trial tribe trick trigger trim trip trophy trouble truck true truly trumpet trust truth
try tube tuition tumble tuna tunnel turkey turn turtle twelve twenty twice twin twist two type typical ugly umbrella
unable unaware uncle uncover under undo unfair unfold unhappy uniform unique unit universe unknown unlock until unusual
unveil update upgrade uphold upon upper upset urban urge usage use used useful useless usual utility vacant vacuum vague
valid valley valve van vanish vapor various vast vault vehicle velvet vendor venture venue verb verify version very vessel
veteran viable vibrant vicious victory video view village vintage violin virtual virus visa visit visual vital vivid vocal
voice void volcano volume vote voyage wage wagon wait walk wall walnut want warfare warm warrior wash wasp waste water
wave way wealth weapon wear weasel weather web wedding weekend weird welcome west wet whale what wheat wheel when where
whip whisper wide width wife wild will win window wine wing wink winner winter wire wisdom wise wish witness wolf woman
wonder wood wool word work world worry worth wrap wreck wrestle wrist write wrong yard year yellow you young youth zebra
zero zone zoo
"""


# ---- Terminal ----------------------------------------------------------------------------------------------------------


def printable(value: str) -> str:
    """Text that moves no cursor and cannot fail to be printed."""
    return "".join(c if c.isprintable() else "\\u{%x}" % ord(c) for c in value)


def complain(message: str) -> None:
    print(f"recover: {printable(message)}", file=sys.stderr)


class Progress:
    """A line on a terminal, nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = -1
        self._is_terminal = sys.stderr.isatty()

    def show(self, done: int) -> None:
        percent = 100 * done // self._total
        if self._is_terminal and percent != self._shown:
            self._shown = percent
            print(f"\r{percent} %", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown >= 0:
            print("\r      \r", end="", file=sys.stderr, flush=True)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--repo", help="the repository (default: the folder of this script)")
    common.add_argument("--passphrase-file", help="a file that holds the passphrase (default: TIMEBAND_PASSPHRASE, or ask)")
    common.add_argument("--key-file", help="a key file, instead of a passphrase")
    common.add_argument("--recovery-phrase", action="store_true", help="ask for a recovery phrase of 24 words instead of a passphrase")
    common.add_argument("--volume-key-file", help="the exported key of one volume: opens that volume only")
    parser = argparse.ArgumentParser(prog="recover.py", description="Gets disk images out of a Timeband repository "
                                     "without Timeband.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | restore | verify")
    listing = commands.add_parser("list", parents=[common], usage="recover.py list [options] [REPO]", help="volumes and sessions")
    listing.add_argument("words", nargs="*", metavar="REPO")
    restoring = commands.add_parser("restore", parents=[common], help="write the image of a session to a new file",
                                    usage="recover.py restore [options] [REPO] VOLUME[@SESSION] OUTPUT")
    restoring.add_argument("words", nargs="+", metavar="[REPO] VOLUME[@SESSION] OUTPUT",
                           help="SESSION: an id, the beginning of an id, or latest")
    restoring.add_argument("--keep-going", action="store_true", help="restore everything but what is damaged; list that")
    restoring.add_argument("--salvage", action="store_true",
                           help="if manifest or index are lost: take the bands by their names, unproven order and age")
    restoring.add_argument("--size", type=int, help="with --salvage: the size of the image in bytes, if the manifest is lost")
    verifying = commands.add_parser("verify", parents=[common], help="read and prove everything",
                                    usage="recover.py verify [options] [REPO] [VOLUME[@SESSION]]")
    verifying.add_argument("words", nargs="*", metavar="[REPO] [VOLUME[@SESSION]]")
    arguments = parser.parse_args(argv)
    place_words(arguments, parser)
    return arguments


def place_words(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Says which of the words is the repository: the first, if there is one more than the command needs."""
    words: List[str] = arguments.words
    least, most = {"list": (0, 0), "restore": (2, 2), "verify": (0, 1)}[arguments.command]
    if arguments.repo is None and (len(words) > most or len(words) == 1 == most and is_repository(words[0])):
        arguments.repo = words.pop(0)
    if not least <= len(words) <= most:
        parser.error(f"{arguments.command}: wrong number of arguments")
    if arguments.repo is None:
        arguments.repo = os.path.dirname(os.path.abspath(__file__))
    arguments.volume, at, arguments.session = (words[0] if words else "").partition("@")
    if at and not arguments.session or words and not arguments.volume:
        parser.error(f"{words[0]!r} is not VOLUME or VOLUME@SESSION")
    arguments.output = words[1] if len(words) > 1 else None
    size = getattr(arguments, "size", None)
    if size is not None and (not arguments.salvage or size <= 0 or size % 512 or size > MAX_INTEGER):
        parser.error("--size is a multiple of 512 and goes with --salvage")


def is_repository(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "repository.json"))


def run(argv: Sequence[str]) -> int:
    arguments = parse_arguments(argv)
    try:
        repository = Repository(arguments.repo, arguments)
        if arguments.command == "list":
            return list_repository(repository)
        if arguments.command == "verify":
            return verify(repository, arguments.volume or None, arguments.session or None)
        return restore(repository, arguments.volume, arguments.session or "latest", arguments)
    except Failure as failure:
        complain(str(failure))
        return failure.status
    except Damage as damage:
        complain(str(damage))
        return CORRUPT
    except OSError as error:
        complain(str(error))
        return FAILED


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(INTERRUPTED)
