"""`bdd convert --from-hub`: revision and checksum, a file that was put there by hand, and no network."""

import hashlib
import json
import sys
import types

import pytest

from bdd_tf.cli import main
from bdd_tf.errors import BddError, UsageError
from converters import hub

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "1627032197142fbe2a7cfec626f4ced3ae60d07a"


class Hub:
    """A stand-in for huggingface_hub: one repository of the given files."""

    def __init__(self, names, digest=DIGEST, error=None):
        self.names, self.digest, self.error, self.asked = names, digest, error, []

    def install(self, monkeypatch):
        module = types.ModuleType("huggingface_hub")
        module.HfApi = lambda: self
        module.hf_hub_download = self.download
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)

    def model_info(self, repository, *, revision, files_metadata):
        if self.error:
            raise self.error
        siblings = [
            types.SimpleNamespace(rfilename=n, size=len(CONTENT), lfs={"sha256": self.digest})
            for n in self.names
        ]
        return types.SimpleNamespace(sha=COMMIT, siblings=siblings)

    def download(self, repository, name, *, revision, local_dir):
        self.asked.append((repository, name, revision))
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / name).write_bytes(CONTENT)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BDD_CACHE", str(tmp_path / "cache"))


def test_a_file_is_fetched_at_the_commit_checked_and_found_again_without_network(monkeypatch):
    online = Hub(["README.md", "open_clip_config.json", "open_clip_pytorch_model.bin", "pytorch_model.bin"])
    online.install(monkeypatch)
    path, origin = hub.fetch("laion/CLIP")
    assert path.name == "open_clip_pytorch_model.bin"
    assert origin == {"repository": "laion/CLIP", "commit": COMMIT, "hub_sha256": DIGEST}
    assert online.asked == [
        ("laion/CLIP", name, COMMIT) for name in ("open_clip_pytorch_model.bin", "open_clip_config.json")
    ]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert hub.fetch("laion/CLIP") == (path, origin)
    assert hub.fetch(f"laion/CLIP@{COMMIT}") == (path, origin)
    with pytest.raises(BddError, match="pip install"):
        hub.fetch("laion/CLIP@another-revision")
    path.write_bytes(b"other")
    with pytest.raises(BddError, match="instead of"):
        hub.fetch("laion/CLIP")


def test_a_wrong_checksum_of_the_hub_is_refused_and_not_recorded(monkeypatch):
    Hub(["model.safetensors"], digest="0" * 64).install(monkeypatch)
    with pytest.raises(BddError, match="instead of 0000"):
        hub.fetch("timm/vit")
    assert not (hub.folder_of("timm/vit") / "hub.json").exists()


@pytest.mark.parametrize("error", [None, OSError("Network is unreachable\nsecond line"), RuntimeError()])
def test_without_network_or_package_one_sentence_names_file_and_folder(error, monkeypatch):
    if error is None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    else:
        Hub([], error=error).install(monkeypatch)
    with pytest.raises(BddError) as caught:
        hub.fetch("laion/CLIP")
    message = str(caught.value)
    assert "open_clip_model.safetensors" in message
    assert str(hub.folder_of("laion/CLIP")) in message
    assert "\n" not in message


def test_a_file_that_was_put_there_by_hand_is_used_without_a_commit():
    path = hub.folder_of("laion/CLIP") / "open_clip_model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert hub.fetch("laion/CLIP") == (path, {"repository": "laion/CLIP", "commit": None, "hub_sha256": None})


def test_a_repository_without_weights_lists_its_files(monkeypatch):
    Hub(["README.md", "weights.msgpack"]).install(monkeypatch)
    with pytest.raises(UsageError, match=r"it has README.md, weights.msgpack: name one with --file"):
        hub.fetch("laion/CLIP")


@pytest.mark.parametrize("name", ["CLIP", "../x", "a/b/c", "a--b/c", "laion/..", "", "a b/c"])
def test_impossible_identifiers_are_refused(name):
    with pytest.raises(UsageError, match="OWNER/NAME"):
        hub.fetch(name)
    with pytest.raises(UsageError, match="without folders"):
        hub.fetch("laion/CLIP", "../../x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from-hub", "a/b"], "give either --run NAME"),
        (["--from-hub", "a/b", "--from-torch", "x", "--run", "y"], "give one of"),
        (["--run", "y", "--file", "x"], "--file needs --from-hub"),
        (["--run", "y", "--sha256", "x"], "--sha256 needs"),
    ],
)
def test_options_that_contradict_are_refused(options, message, capsys):
    assert main(["convert", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_record_is_ignored():
    path = hub.folder_of("laion/CLIP") / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    for record in ("{", json.dumps([1]), json.dumps({"files": 3})):
        (path.parent / "hub.json").write_text(record)
        assert hub.fetch("laion/CLIP")[0] == path
