"""The page's downloads, run by Node with a made-up document; the page in a browser is tested in browser.py."""

import csv
import io
import json
import shutil
import subprocess

import pytest

from bdd_tf.service.page import script, start_page

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js here")

STAGE = """
const script = require("fs").readFileSync(0, "utf8");
const { list, clicks } = JSON.parse(process.argv[1]);
const element = () => ({ children: [], handlers: {}, textContent: "", replaceChildren() {}, focus() {},
  addEventListener(kind, handler) { this.handlers[kind] = handler; } });
const elements = {}, saved = [];
const document = { body: { dataset: {}, classList: { toggle() {} } }, addEventListener() {},
  getElementById: (id) => (elements[id] ??= element()),
  createElement: () => ({ ...element(), click() { saved.push([this.download, this.href]); } }) };
const fetch = async () => ({ json: async () => ({ name: "m", resolution: 32, max_upload_bytes: 9, max_pixels: 9 }) });
const URL = { createObjectURL: (blob) => blob, revokeObjectURL() {} };
new Function("document", "fetch", "URL", "setTimeout", `${script};
  for (const entry of ${JSON.stringify(list)}) {
    const card = {};
    if (entry) entries.set(card, entry);
    results.children.push(card);
  }
  count();`)(document, fetch, URL, () => {});
(async () => {
  for (const id of clicks) elements[id].handlers.click();
  const files = await Promise.all(saved.map(async ([name, blob]) => ({
    name, type: blob.type, hex: Buffer.from(await blob.arrayBuffer()).toString("hex") })));
  console.log(JSON.stringify({ files, disabled: [elements.csv.disabled, elements.json.disabled] }));
})();
"""

SCORED = {
    "fake_probability": 0.25,
    "verdict": "REAL",
    "threshold": 0.5,
    "note": "larger than the training images: 9x9 px",
    "latency_ms": 1.5,
    "queue_ms": 0,
    "width": 9,
    "height": 9,
    "model": "m.tflite",
}


def pressed(entries, *clicks):
    done = subprocess.run(
        ["node", "-e", STAGE, json.dumps({"list": entries, "clicks": clicks})],
        input=script().encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


NAMES = ["photo.jpg", 'a "b", c.png', "Größe 🎉.jpg", " padded ", "line\nfeed.png"]


def test_csv_has_the_columns_of_bdd_detect_and_names_come_back_unchanged():
    entries = [{"name": name, **SCORED} for name in NAMES]
    entries.append({"name": "no image.txt", "error": "Not an image, in a known format."})
    [file] = pressed(entries, "csv")["files"]
    assert (file["name"], file["type"]) == ("bdd.csv", "text/csv")
    content = bytes.fromhex(file["hex"])
    assert content.startswith(b"\xef\xbb\xbf")  # for spreadsheets
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert list(rows[0]) == ["path", "fake_probability", "verdict", "error", "note"]
    assert [row["path"] for row in rows] == [*NAMES, "no image.txt"]
    assert {row["fake_probability"] for row in rows[:-1]} == {"0.25"}
    assert rows[0] == {"path": "photo.jpg", "fake_probability": "0.25", "verdict": "REAL", "error": "",
                       "note": SCORED["note"]}  # fmt: skip
    assert rows[-1]["error"] == "Not an image, in a known format."
    assert rows[-1]["fake_probability"] == rows[-1]["verdict"] == ""


def test_json_is_what_the_service_answers_about_several_images():
    entries = [{"name": NAMES[2], **SCORED}, None, {"name": "x", "error": "No."}]  # None: still in the queue
    [file] = pressed(entries, "json")["files"]
    assert (file["name"], file["type"]) == ("bdd.json", "application/json")
    assert json.loads(bytes.fromhex(file["hex"])) == {"images": [entries[0], entries[2]]}


def test_there_is_nothing_to_download_before_a_result_is_there():
    assert pressed([None])["disabled"] == [True, True]
    assert pressed([{"name": "x", "error": "No."}])["disabled"] == [False, False]


def test_the_page_has_both_buttons():
    assert '<button id="csv" type="button">' in start_page().html
    assert '<button id="json" type="button">' in start_page().html
