"""A service in plain Python, from a user's file to callers: by the SDK, the command line and HTTP, moved and broken."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.support.lepton import Lepton
from tests.support.site import until

SERVICE = '''
import helper
import leptonai


class Toxic(leptonai.Predictor):
    """Counts bad words."""

    inputs = {"text": str}
    outputs = {"score": float, "length": int}
    max_batch = 16

    def load(self, context):
        self.words = set(context.path("words/bad.txt").read_text().split())

    def predict(self, batch):
        texts = batch["text"]
        return {"score": [helper.share(text, self.words) for text in texts], "length": [len(text) for text in texts]}

    def stream(self, row):
        for word in row["text"].split():
            yield {"word": word, "bad": word in self.words}


class Broken(Toxic):
    def load(self, context):
        raise RuntimeError("the weights are of another shape")
'''
HELPER = """
def share(text, words):
    found = text.split()
    return sum(word in words for word in found) / max(1, len(found))
"""
PROGRAM = """
import leptonai
from service import Broken, Toxic

service = leptonai.serve(Toxic, "toxic", files=["words"], requirements=["numpy>=1.20"], memory_mb=1000)
print(service.predict([{"text": "you fool"}, {"text": "hello"}]))
print(list(service.stream({"text": "you fool"})))
version = leptonai.get_model("models:/toxic")
print(version.record.framework, version.lineage["class"], version.lineage["requirements"])
for made, more in ((Broken, {}), (Toxic, {"requirements": ["numpy>=99", "nothing-of-this-name"]}), (Toxic, {"files": {}})):
    try:
        leptonai.serve(made, "toxic", **({"files": ["words"]} | more))
    except leptonai.LeptonError as error:
        print("refused:", error)
print(service.predict({"text": "hello"}))
"""


@pytest.fixture
def lepton(tmp_path: Path) -> Lepton:
    made = Lepton(tmp_path)
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "bad.txt").write_text("fool idiot")
    return made


@pytest.mark.slow  # the page on classes tells the same in each run
def test_from_a_class_in_a_file_to_its_callers(lepton: Lepton) -> None:
    with lepton.up():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=lepton.folder, env={**lepton.environment, "PYTHONPATH": str(lepton.folder)},
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        lines = done.stdout.splitlines()
        assert lines[0] == "[{'score': 0.5, 'length': 8}, {'score': 0.0, 'length': 5}]"
        assert lines[1] == "[{'word': 'you', 'bad': False}, {'word': 'fool', 'bad': True}]"
        assert lines[2] == "python service.Toxic ['numpy>=1.20']"
        assert "the weights are of another shape" in lines[3]
        assert "numpy>=99 is wanted" in lines[4]
        assert "nothing-of-this-name is not installed" in lines[4]
        assert "no file 'words/bad.txt' came with this service" in lines[5]
        assert lines[6] == "{'score': 0.0, 'length': 5}"

        arguments = ("model", "create", "rude", "--from", "service.py:Toxic", "--files", "words", "--workers", "2")
        would = lepton(*arguments, "--dry-run")
        assert "score" in would
        made = lepton.json(*arguments)
        assert made["lineage"]["worker"]["workers"] == 2
        service = lepton.json("service", "create", "rude", "--model", "rude", "--public")
        assert "no such file" in lepton("model", "create", "rude", "--from", "none.py:Toxic", code=1)
        url = service["status"]["url"]
        bad, good = (httpx.post(url, json={"rows": [{"text": text}]}, trust_env=False) for text in ("idiot", "fine"))
        assert [one.json()["predictions"][0]["score"] for one in (bad, good)] == [1.0, 0.0]

        asked = {"min": 2, "max": 3, "wait_ms": 50.0, "down_seconds": 30.0}
        assert lepton.json("service", "replicas", "rude", "--replicas", "2..3", "--wait-ms", "50")["asked"] == asked
        until(lambda: lepton.json("service", "replicas", "rude")["ready"] == 2)
        assert "such as 1..4" in lepton("service", "replicas", "rude", "--replicas", "many", code=1)
        top = lepton.json("service", "top", "rude", "--once", "--seconds", "0.2")
        assert [(row["replicas"], row["wanted"]) for row in top["services"]] == [(2, 2)]

        jobs = lepton.home / "jobs"
        folders = until(lambda: list(jobs.glob("native-*/w1")))
        pid = next(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _where(p) in map(str, folders))
        os.kill(pid, signal.SIGKILL)
        codes = {httpx.post(url, json={"rows": [{"text": "idiot"}]}, trust_env=False).status_code for _ in range(20)}
        assert codes == {200}
        assert lepton.json("service", "memory", "rude", "--idle-seconds", "0.5")["idle_seconds"] == 0.5
        until(lambda: not any(_where(p) in map(str, folders) for p in Path("/proc").iterdir() if p.name.isdigit()), 40)
        assert "nobody calls" in lepton("service", "get", "rude")  # not one process of it is left, and it answers
        assert httpx.post(url, json={"rows": [{"text": "idiot"}]}, trust_env=False, timeout=60).status_code == 200
        secret = b"fool idiot"
        for path in lepton.home.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert secret not in path.read_bytes(), path


def _where(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except OSError:
        return ""
