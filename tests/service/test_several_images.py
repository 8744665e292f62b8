"""Several images in one request, and forms as odd clients send them: names, preambles, limits."""

import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge import Detector
from bdd_tf.edge.images.crops import usual_tiles
from bdd_tf.service.form import PREAMBLE_BYTES, Form, file_name
from bdd_tf.service.limits import Buffer, Limits, Share
from tests.service.serving import MODEL, Server, form
from tests.service.test_service_api import answer_schema, check

pytestmark = pytest.mark.filterwarnings("ignore::bdd_tf.edge.OutOfDistributionWarning")


def file(name, content):
    return f'name="image"; filename="{name}"', content


def saved(seed, side=32):
    noise = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def description(server):
    return server.json("GET", "/openapi.json")[1]


def checked(description, answer):
    schemas = description["components"]["schemas"]
    check(answer, answer_schema(description, "/api/detect", "post", 200), schemas)
    return answer


def test_each_image_of_a_form_gets_its_score_in_order_and_an_unreadable_one_its_error(server, description):
    contents = [saved(0), b"no image", saved(1), b"", saved(2)]
    body, headers = form(*(file(f"{i}.png", content) for i, content in enumerate(contents)))
    status, answer = server.json("POST", "/api/detect", body, headers)
    assert status == 200
    assert list(checked(description, answer)) == ["images"]
    entries = answer["images"]
    assert [entry["name"] for entry in entries] == [f"{i}.png" for i in range(5)]
    for i in (0, 2, 4):
        alone = server.detect(contents[i])[1]
        assert {k: v for k, v in entries[i].items() if not k.endswith("_ms") and k != "name"} == {
            k: v for k, v in alone.items() if not k.endswith("_ms")
        }
    for i, expected in ((1, 422), (3, 400)):
        status, alone = server.detect(contents[i])
        assert entries[i] == {"name": f"{i}.png", "error": alone["error"], "status": status}
        assert status == expected


def test_a_single_image_is_answered_as_ever_unless_a_list_is_asked_for(server, description):
    content = saved(0)
    body, headers = form(file("a.png", content), ('name="other"; filename=""', b""), ('name="x"', b"y"))
    alone = server.json("POST", "/api/detect", body, headers)[1]
    keys = [
        "fake_probability",
        "verdict",
        "threshold",
        "note",
        "latency_ms",
        "queue_ms",
        "width",
        "height",
        "model",
        "model_version",
        "model_sha256",
    ]
    assert list(alone) == keys
    listed = checked(description, server.json("POST", "/api/detect?list=1", body, headers)[1])
    assert list(listed["images"][0]) == ["name", *keys]
    assert server.detect(content, "?list=1")[1]["images"][0]["name"] is None
    # Without another image there is nobody to protect: the error is that of the request.
    body, headers = form(file("a.png", b"no image"))
    assert server.json("POST", "/api/detect", body, headers)[0] == 422


@pytest.fixture(scope="module")
def small():
    """A server for files of 100 kB and requests of 250 kB."""
    with Server("--max-upload", "0.1", "--max-request", "0.25") as running:
        yield running


def test_a_file_beyond_the_limit_does_not_discard_the_others(small):
    body, headers = form(file("a", saved(0)), file("large", bytes(150_000)), file("b", saved(1)))
    status, answer = small.json("POST", "/api/detect", body, headers)
    assert status == 200
    assert ["error" in entry for entry in answer["images"]] == [False, True, False]
    assert answer["images"][1]["status"] == 413
    assert "0.1 MiB" in answer["images"][1]["error"]
    body, headers = form(file("large", bytes(150_000)))
    assert small.json("POST", "/api/detect", body, headers)[0] == 413


@pytest.mark.parametrize("declared", [True, False])
def test_all_files_together_have_a_limit_too(small, declared):
    body, headers = form(*(file(f"{i}", bytes(90_000)) for i in range(5)))
    sent = body if declared else (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    status, answer = small.json("POST", "/api/detect", sent, headers)
    assert status == 413
    assert "together" in answer["error"]
    model = small.json("GET", "/api/model")[1]
    assert (model["max_upload_bytes"], model["max_request_bytes"]) == (104_858, 262_144)


def test_memory_of_discarded_files_is_given_back(tight):
    server = tight(upload_bytes=20_000, request_bytes=200_000, buffered_bytes=220_000)
    body, headers = form(file("large", bytes(150_000)), file("a", saved(0)))
    for _ in range(5):
        status, answer = server.json("POST", "/api/detect", body, headers)
        assert status == 200
        assert answer["images"][1]["verdict"] in ("REAL", "FAKE")


def test_there_is_a_limit_to_the_number_of_images_and_of_other_fields(tight):
    server = tight(images=3)
    for count, expected in ((3, 200), (4, 400)):
        body, headers = form(*(file(f"{i}", saved(i)) for i in range(count)))
        status, answer = server.json("POST", "/api/detect", body, headers)
        assert status == expected, answer
    assert "more than 3 files" in answer["error"]
    fields = [(f'name="{i}"', b"x") for i in range(17)]
    for count, expected in ((16, 200), (17, 400)):
        body, headers = form(*fields[:count], file("a", saved(0)))
        assert server.json("POST", "/api/detect", body, headers)[0] == expected


def test_a_form_with_many_images_waits_its_turn_when_the_queue_is_full(tight, large):
    """It was admitted once; its later images neither overtake others nor are lost."""
    from concurrent.futures import ThreadPoolExecutor

    server = tight(workers=1, queue=0)
    content = large.read_bytes()
    body, headers = form(*(file(f"{i}", saved(i, 300)) for i in range(12)))
    with ThreadPoolExecutor(5) as pool:
        several = pool.submit(server.json, "POST", "/api/detect", body, headers)
        others = [pool.submit(server.detect, content) for _ in range(8)]
        statuses = [several.result()[0]] + [other.result()[0] for other in others]
    assert set(statuses) <= {200, 503}
    if several.result()[0] == 200:
        assert not [entry for entry in several.result()[1]["images"] if "error" in entry]
    assert server.json("GET", "/healthz")[1]["waiting"] == 0
    assert server.json("POST", "/api/detect", body, headers)[0] == 200


# Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ('filename="a.jpg"', (True, "a.jpg")),
        ("filename=a.jpg", (True, "a.jpg")),
        ("filename*=UTF-8''na%C3%AFve%20%F0%9F%8E%89.jpg", (True, "naïve 🎉.jpg")),
        ("filename*=utf-8'en'%e2%82%ac.jpg", (True, "€.jpg")),
        ("filename*=iso-8859-1'de'gr%FCn.jpg", (True, "grün.jpg")),
        ("FILENAME*=UTF-8''b.jpg", (True, "b.jpg")),
        ("filename=\"fallback.jpg\"; filename*=UTF-8''n%C3%A4he.jpg", (True, "nähe.jpg")),
        ("filename*=UTF-8''n%C3%A4he.jpg; filename=\"fallback.jpg\"", (True, "nähe.jpg")),
        # Not as RFC 5987 wants it: the plain name, or none.
        ("filename=\"fallback.jpg\"; filename*=UTF-8''%FF%FE", (True, "fallback.jpg")),
        ('filename="fallback.jpg"; filename*=nonsense', (True, "fallback.jpg")),
        ("filename*=koi8-r''%C1.jpg", (True, None)),
        ("filename*=UTF-8''a%2", (True, "a%2")),
        # Inside quotes it is text.
        ("filename=\"x; filename*=UTF-8''y.jpg\"", (True, "x; filename*=UTF-8''y.jpg")),
        ("name2=\"filename*=UTF-8''y.jpg\"", (False, None)),
        ("", (False, None)),
    ],
)
def test_names_of_rfc_5987(parameters, expected):
    assert file_name(f'form-data; name="image"; {parameters}'.rstrip("; ").encode()) == expected


def test_names_in_other_encodings():
    assert file_name('form-data; filename="grün.jpg"'.encode()) == (True, "grün.jpg")
    assert file_name('form-data; filename="grün.jpg"'.encode("latin-1")) == (True, "grün.jpg")


def test_a_part_with_an_extended_name_alone_is_a_file(server):
    content = saved(0)
    body, headers = form(
        ("name=\"image\"; filename*=UTF-8''na%C3%AFve%20%F0%9F%8E%89.png", content), file("b.png", content)
    )
    answer = server.json("POST", "/api/detect", body, headers)[1]
    assert [entry["name"] for entry in answer["images"]] == ["naïve 🎉.png", "b.png"]
    body, headers = form(("name=\"image\"; filename*=UTF-8''a.png", content))
    assert server.json("POST", "/api/detect", body, headers)[1]["verdict"] in ("REAL", "FAKE")


# Preambles --------------------------------------------------------------------------------------------------------

PREAMBLES = [
    b"\r\n",
    b"This is a multi-part message in MIME format.\r\n",
    b"two\r\nlines\r\n\r\n",
    b"--b0undaryX\r\n",  # begins like the boundary
    b"not --b0undary yet\r\n",
    b"\r\n--b0undar\r\n-\r\n",
    b"x" * (PREAMBLE_BYTES // 2) + b"\r\n",
]


@pytest.mark.parametrize("preamble", PREAMBLES, ids=range(len(PREAMBLES)))
@pytest.mark.parametrize("piece", [1 << 20, 1009, 7])
def test_text_before_the_first_boundary_is_skipped(server, preamble, piece):
    body, headers = form(file("a.png", saved(0)))
    body = preamble + body + b"an epilogue"
    pieces = (body[at : at + piece] for at in range(0, len(body), piece))
    status, answer = server.json("POST", "/api/detect", body if piece == 1 << 20 else pieces, headers)
    assert status == 200, answer


def test_a_preamble_without_end_is_refused(server):
    _, headers = form()
    for body in (b"x" * (PREAMBLE_BYTES + 10), b"short", b"", b"--b0undar"):
        status, answer = server.json("POST", "/api/detect", body, headers)
        assert status == 400
        assert "boundary" in answer["error"]


def test_a_preamble_of_near_boundaries_in_tiny_pieces_costs_little():
    """Each byte is looked at a few times, whatever came before it."""
    limits = Limits()
    near, body = b"\r\n--b0undaryX" * 4600, form(file("a.png", b"content"))[0]
    received = Form(b"b0undary", limits, Share(Buffer(limits.buffered_bytes)))
    started = time.process_time()
    for byte in near:
        received.write(bytes([byte]))
    received.write(b"\r\n" + body)
    assert time.process_time() - started < 3
    assert bytes(received.files()[0].content) == b"content"


# Crops and explanations -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide():
    content = io.BytesIO()
    y, x = np.mgrid[0:96, 0:128]
    Image.fromarray(np.stack([x * 2, y * 2, (x * y) % 256], -1).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("query", ["crop=center", "crop=tiles", "crop=tiles&max_tiles=4"])
def test_crops_are_those_of_bdd_detect(server, description, wide, query, tmp_path, capsys):
    from bdd_tf.cli import main

    path = tmp_path / "wide.png"
    path.write_bytes(wide)
    options = [word for pair in query.split("&") for word in f"--{pair.replace('_', '-')}".split("=")]
    assert main(["detect", str(path), "--model", "cifake", "--json", *options]) == 0
    expected = json.loads(capsys.readouterr().out)
    answer = checked(description, server.detect(wide, f"?{query}")[1])
    for key in ("box", "crops", "verdict", "note"):
        assert answer[key] == expected[key]
    for key in ("fake_probability", "box_probability"):
        assert answer[key] == pytest.approx(expected[key], abs=1e-6)
    assert "box" not in server.detect(wide)[1]


def test_an_explanation_is_that_of_bdd_detect_with_a_picture(server, description, wide, tmp_path, capsys):
    from bdd_tf.cli import main

    path = tmp_path / "wide.png"
    path.write_bytes(wide)
    assert main(["detect", str(path), "--model", "cifake", "--json", "--explain"]) == 0
    expected = json.loads(capsys.readouterr().out)["explanation"]
    answer = checked(description, server.detect(wide, "?explain=1")[1])
    found = answer["explanation"]
    assert {**found, "picture": None} == {**expected, "picture": None}
    import base64

    picture = Image.open(io.BytesIO(base64.b64decode(found["picture"].partition(",")[2])))
    own = Image.open(expected["picture"])
    assert picture.size == own.size == (1164, picture.height)
    # All but the name of the image.
    np.testing.assert_array_equal(np.asarray(picture)[50:], np.asarray(own)[50:])


def test_an_explanation_is_for_one_image(server, wide):
    body, headers = form(file("a", wide), file("b", wide))
    status, answer = server.json("POST", "/api/detect?explain=1", body, headers)
    assert status == 400
    assert "one image per request" in answer["error"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("crop=nose", "possible: center, tiles, faces"),
        ("crop=", "possible: center, tiles, faces"),
        ("max_tiles=4", "requires crop=tiles"),
        ("crop=tiles&max_tiles=0", "whole number from 1"),
        ("crop=tiles&max_tiles=" + "9" * 5000, "whole number from 1"),
        ("crop=tiles&max_tiles=1.5", "whole number from 1"),
        (f"crop=tiles&max_tiles={usual_tiles(32) + 1}", "whole number from 1"),
        ("explain=maybe", "possible: 1, 0"),
        ("list=", "possible: 1, 0"),
    ],
)
def test_odd_options_are_refused(server, wide, query, said):
    status, answer = server.detect(wide, f"?{query}")
    assert status == 400
    assert said in answer["error"]
    assert len(answer["error"]) < 300


def test_faces_are_found_or_the_answer_says_what_is_missing(server, wide):
    status, answer = server.detect(wide, "?crop=faces")
    # No face in the picture; or, without OpenCV, nobody to look for it.
    assert (status, "face" in answer["error"]) in ((422, True), (400, True))
    assert "--" not in answer["error"]


def test_scores_are_the_detectors(server):
    contents = [saved(i) for i in range(20)]
    body, headers = form(*(file(f"{i}", content) for i, content in enumerate(contents)))
    answer = server.json("POST", "/api/detect?threshold=0", body, headers)[1]
    with Detector(MODEL) as detector:
        expected = detector.predict(contents)
    assert [entry["fake_probability"] for entry in answer["images"]] == pytest.approx(
        expected.tolist(), abs=1e-6
    )
    assert {entry["verdict"] for entry in answer["images"]} == {"FAKE"}
