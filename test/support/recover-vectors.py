#!/usr/bin/env python3
"""Holds tools/recover.py against test/fixtures/vectors: it takes every vector and refuses every fault.

Prints one line for each that it judges wrong, and at the end how many it looked at. See the vectors' README.md.
"""

import hashlib
import importlib.util
import json
import os
import re
import struct
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SPEC = importlib.util.spec_from_file_location("recover", os.path.join(ROOT, "tools", "recover.py"))
recover = importlib.util.module_from_spec(SPEC)
sys.modules["recover"] = recover
sys.dont_write_bytecode = True
SPEC.loader.exec_module(recover)

looked_at = 0


def vectors(name):
    with open(os.path.join(ROOT, "test", "fixtures", "vectors", name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def judge(what, is_right):
    global looked_at
    looked_at += 1
    if not is_right:
        print("wrong:", what)


def is_refused(work):
    try:
        work()
        return False
    except (recover.Damage, recover.InvalidTag):
        return True


def text_bytes(text):
    return text.encode("utf-8", "surrogatepass")


def judge_keys():
    for vector in vectors("keys")["vectors"]:
        volume = bytes.fromhex(vector["volumeId"])
        volume_key = recover.MasterKey(bytes.fromhex(vector["masterKey"])).volume_key(volume)
        keys = recover.VolumeKeys(volume_key, volume, "aes-256-gcm")
        is_right = (volume_key.hex(), keys.records.hex(), keys.bands.hex()) == (
            vector["volumeKey"], vector["recordsKey"], vector["bandKey"])
        judge("keys: " + vector["name"], is_right)
    for vector in vectors("keys")["domains"]:
        key = recover.MasterKey(bytes.fromhex(vector["masterKey"])).domain_key(bytes.fromhex(vector["domainId"]))
        judge("key domain: " + vector["name"], key.hex() == vector["bandKey"])


def bare_keys(**fields):
    keys = recover.VolumeKeys(bytes(32), bytes(16), "aes-256-gcm")
    keys.__dict__.update(fields)
    return keys


def judge_names():
    data = vectors("names")
    keys = bare_keys(_names=bytes.fromhex(data["namesKey"]))
    kinds = {"band": recover.BAND, "page": recover.PAGE}
    for vector in data["vectors"]:
        kind, number = kinds[vector["kind"]], int(vector["number"])
        judge("name: %s" % vector, keys.name(kind, number) == vector["name"] and keys.number(kind, vector["name"]) == number)
    for fault in data["faults"]:
        judge("name: " + fault["name"], keys.number(recover.BAND, fault["text"]) is None)


def judge_session_ids():
    data = vectors("session-id")
    for vector in data["vectors"]:
        judge("session id: " + vector["id"], recover.session_id(vector["id"]))
    for fault in data["faults"]:
        judge("session id: %r" % fault, not recover.session_id(fault))


def judge_records():
    data = vectors("record")
    keys = bare_keys(records=bytes.fromhex(data["key"]), volume=bytes.fromhex(data["volumeId"]))

    def place(at):
        return b"" if at is None else struct.pack(">Q", at) if isinstance(at, int) else at.encode()

    def opened(file, vector):
        return keys.open_record(bytes.fromhex(file), vector["kind"].encode(), place(vector.get("at")), "record")

    for vector in data["vectors"]:
        judge("record: " + vector["kind"], opened(vector["file"], vector).hex() == vector["plain"])
    for fault in data["faults"]:
        judge("record: " + fault["name"], is_refused(lambda: opened(fault["file"], data["vectors"][0])))


def open_band(file, vector, expected_bytes):
    """The plain chunks, all of them; raises what the script refuses by."""
    keys = bare_keys(bands=bytes.fromhex(vector["bandKey"]), domain=bytes.fromhex(vector["domainId"]), cipher=vector["cipher"])
    entry = recover.Entry(bytes.fromhex(vector["salt"]), expected_bytes, b"", b"")
    sealed = recover.SealedBand(file, keys, vector["chunkCount"] * recover.CHUNK, entry, "band")
    if not sealed.has_length or not sealed.has_checksum or not sealed.has_padding():
        raise recover.Damage("length, checksum or padding")
    chunks = []
    for number, (_, length, raw) in enumerate(sealed.chunks):
        plain = recover.ZERO_CHUNK if length == 0 else sealed.open_chunk(number)
        for zstd in () if raw or length == 0 else ENGINES:
            results = zstd.decompress([plain, plain])
            if results[0] is None or results[0] != results[1]:
                raise recover.Damage("frame")
        chunks.append(plain if raw or length == 0 else results[0])
    return chunks


def content(chunk):
    if chunk is None:
        return bytes(recover.CHUNK)
    if "constant" in chunk:
        return bytes([chunk["constant"]]) * recover.CHUNK
    blocks = (hashlib.sha256(chunk["fill"].encode() + struct.pack("<I", i)).digest() for i in range(recover.CHUNK // 32))
    return b"".join(blocks)


def judge_bands(name):
    data = vectors(name)
    for vector in [one for one in [data["intact"], *data["vectors"]] if "file" in one]:
        file = bytes.fromhex(vector["file"])
        expected = [content(vector["chunks"].get(str(i))) for i in range(vector["chunkCount"])]
        judge("band: " + vector["name"], open_band(file, vector, len(file)) == expected)
    for fault in data["faults"]:
        file = bytes.fromhex(fault["file"])
        judge("band: " + fault["name"], is_refused(lambda: open_band(file, data["intact"], len(file))))
    for fault in data["tables"]:
        file = bytes.fromhex(fault["head"]) + bytes(max(0, fault["fileBytes"] - len(fault["head"]) // 2))
        judge("table: " + fault["name"], is_refused(lambda: open_band(file, data["intact"], len(file))))


def judge_plain_bands():
    judge_bands("band-file")


def judge_padded_bands():
    judge_bands("padded-band")


def judge_documents():
    data = vectors("documents")

    readers = {
        "repository": lambda text: recover.decode_json(text_bytes(text), recover.REPOSITORY_SHAPE, "repository", indent=2),
        "volume": lambda text: recover.decode_volume(text_bytes(text), "volume"),
        "volumeInDomain": lambda text: recover.decode_volume(text_bytes(text), "volume"),
        "labels": lambda text: recover.decode_labels(text_bytes(text), "labels"),
        "manifest": lambda text: recover.decode_manifest(text_bytes(text), "manifest"),
        "manifestInDomain": lambda text: recover.decode_manifest(text_bytes(text), "manifest"),
    }
    for kind, read in readers.items():
        judge("%s: the vector" % kind, not is_refused(lambda: read(data[kind]["text"])))
        for fault in data[kind]["faults"]:
            judge("%s: %s" % (kind, fault["name"]), is_refused(lambda: read(fault["text"])))


def opened(config, secret, text):
    """What a slot file with this text wraps."""
    with tempfile.TemporaryDirectory() as folder:
        name = SLOT_NAME.search(text)
        name = (name.group(1) if name else "0" * 16) + ".json"
        with open(os.path.join(folder, name), "wb") as file:
            file.write(text_bytes(text))
        with recover.Folder.root(folder) as keys:
            return recover.unwrap_slot(recover.read_slot(keys, name), hashlib.sha256(text_bytes(config)).digest(), secret)


SLOT_NAME = re.compile('"slot": "([0-9a-f]{16})"')


def judge_key_slots():
    data = vectors("key-slot")
    vector = data["vector"]
    config, secret = vector["config"], recover.passphrase_offer(vector["passphrase"]).secret
    judge("key slot: the vector", opened(config, secret, vector["text"]).hex() == vector["masterKey"])
    for fault in data["faults"]:
        judge("key slot: " + fault["name"], is_refused(lambda: opened(config, secret, fault["text"])))


def judge_bound_slots():
    data = vectors("bound-slot")
    for vector in data["vectors"]:
        secret = bytes.fromhex(vector["secret"])
        judge("bound slot: " + vector["kind"], opened(data["config"], secret, vector["text"]).hex() == data["masterKey"])
    for fault in data["faults"]:
        judge("bound slot: " + fault["name"], is_refused(lambda: opened(data["config"], secret, fault["text"])))


def is_failure(work):
    try:
        work()
        return False
    except recover.Failure as failure:
        return failure.status == recover.NO_KEY


def judge_volume_keys():
    data = vectors("volume-key")
    vector = data["vector"]
    digest = bytes.fromhex(vector["configDigest"])
    key = recover.ExportedKey(text_bytes(vector["text"]), digest)
    judge("volume key: the vector", key.opens(vector["volumeId"]) and not key.opens("00" * 16)
          and key.volume_key(bytes.fromhex(vector["volumeId"])).hex() == vector["key"])
    judge("volume key: of another repository", is_failure(lambda: recover.ExportedKey(text_bytes(vector["text"]), bytes(32))))
    for fault in data["faults"]:
        judge("volume key: " + fault["name"], is_failure(lambda: recover.ExportedKey(text_bytes(fault["text"]), digest)))


def judge_recovery_phrases():
    data = vectors("recovery-phrase")
    for vector in data["vectors"]:
        for typed in (vector["phrase"], vector["phrase"].upper(), " " + vector["phrase"].replace(" ", "\n\t")):
            judge("phrase: " + vector["entropy"], recover.phrase_entropy(typed).hex() == vector["entropy"])
    for fault in data["faults"]:
        judge("phrase: " + fault["name"], is_failure(lambda: recover.phrase_entropy(fault["phrase"])))
    digest = hashlib.sha256("".join(word + "\n" for word in recover.BIP39_WORDS.split()).encode()).hexdigest()
    judge("phrase: the words", digest == "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda")


ENGINES = [recover.ModuleZstd(), recover.ProgramZstd("zstd")]

for judge_all in (judge_keys, judge_names, judge_session_ids, judge_records, judge_plain_bands, judge_padded_bands, judge_documents, judge_key_slots,
                  judge_bound_slots, judge_volume_keys, judge_recovery_phrases):
    judge_all()
print("%d looked at" % looked_at)
