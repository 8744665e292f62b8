"""What the service answers, against the detector itself and its own OpenAPI document."""

import base64
import hashlib
import io
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge import Detector, load_image
from bdd_tf.edge.images.channel_images import channel_pngs
from tests.service.serving import MODEL, form


@pytest.fixture(scope="module")
def description(server):
    return server.json("GET", "/openapi.json")[1]


pytestmark = pytest.mark.filterwarnings("ignore::bdd_tf.edge.OutOfDistributionWarning")


@pytest.fixture(scope="module")
def detector():
    with Detector(MODEL) as detector:
        yield detector


def check(value, schema, schemas):
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        problems = []
        for one in schema["anyOf"]:
            try:
                return check(value, one, schemas)
            except AssertionError as error:
                problems.append(error)
        raise AssertionError(problems)
    known = {"type", "required", "properties", "additionalProperties", "items", "enum", "const", "pattern",
             "minimum", "maximum", "description"}  # fmt: skip
    assert set(schema) <= known
    kinds = {
        "number": (int, float),
        "integer": int,
        "string": str,
        "boolean": bool,
        "object": dict,
        "array": list,
        "null": type(None),
    }
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert isinstance(value, tuple(t for n in names for t in np.atleast_1d(kinds[n]))), (value, schema)
    assert value in schema.get("enum", [value])
    assert value == schema.get("const", value)
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value)
        if "properties" in schema:
            assert set(value) <= set(schema["properties"])
            for key, inner in value.items():
                check(inner, schema["properties"][key], schemas)
    if isinstance(value, list) and "items" in schema:
        for inner in value:
            check(inner, schema["items"], schemas)
    if isinstance(value, str):
        assert re.search(schema.get("pattern", ""), value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return None


def answer_schema(description, path, method, status):
    answer = description["paths"][path][method]["responses"][str(status)]
    return answer["content"]["application/json"]["schema"]


def test_scores_are_the_detectors_however_the_image_is_sent(server, detector, description, photo):
    content = photo.read_bytes()
    body, headers = form(
        ('name="comment"', b"mine"), ('name="x"; filename="a b.jpg"', content), ('name="y"', b"")
    )
    chunked = (content[at : at + 100] for at in range(0, len(content), 100))
    sent = [
        (content, {"Content-Type": "image/jpeg"}),
        (content, {"Content-Type": "image/png"}),  # what the file says counts
        (content, {"Content-Type": "APPLICATION/OCTET-STREAM; charset=x"}),
        (content, {}),
        (body, headers),
        (body, {"Content-Type": 'multipart/form-data; charset=utf-8; boundary="b0undary"'}),
        (chunked, {"Content-Type": "image/jpeg"}),  # its length is not declared
    ]
    expected = float(detector.predict(photo)[0])
    schema = answer_schema(description, "/api/detect", "post", 200)
    for data, given in sent:
        status, answer = server.json("POST", "/api/detect", data, given)
        assert status == 200, answer
        check(answer, schema, description["components"]["schemas"])
        assert answer["fake_probability"] == pytest.approx(expected, abs=1e-6)
        assert answer["verdict"] == detector.verdicts([expected])[0]
        assert answer["threshold"] == detector.threshold
        assert (answer["width"], answer["height"]) == (101, 75)
        assert 0 < answer["latency_ms"] < 10_000
        assert 0 <= answer["queue_ms"] < 10_000
        assert answer["model"] == MODEL.name
        assert answer["note"] == detector.note(photo) == "much larger than the training images: 101x75 px"
        assert "pictures" not in answer


def test_in_distribution_images_get_no_note(server):
    file = io.BytesIO()
    y, x = np.mgrid[0:32, 0:32]
    wave = np.random.default_rng(0).normal(128 + 40 * np.sin(x / 3) * np.cos(y / 4), 8)
    Image.fromarray(np.stack([wave] * 3, -1).clip(0, 255).astype(np.uint8)).save(file, "PNG")
    assert server.detect(file.getvalue())[1]["note"] is None


def test_pictures_show_the_network_s_input(server, detector, description, photo):
    _, answer = server.detect(photo.read_bytes(), "?pictures=1")
    check(
        answer, answer_schema(description, "/api/detect", "post", 200), description["components"]["schemas"]
    )
    made = channel_pngs(load_image(photo, detector.resize))
    assert set(answer["pictures"]) == {"input", "fft", "lbp"}
    for name, uri in answer["pictures"].items():
        kind, _, data = uri.partition(",")
        assert kind == "data:image/png;base64"
        sent, ours = (np.asarray(Image.open(io.BytesIO(f))) for f in (base64.b64decode(data), made[name]))
        np.testing.assert_array_equal(sent, ours)


def test_the_threshold_decides(server, photo):
    content = photo.read_bytes()
    score = server.detect(content)[1]["fake_probability"]
    assert 0 < score < 1
    for threshold, verdict in ((0, "FAKE"), (score, "FAKE"), (score + 1e-6, "REAL"), (1, "REAL")):
        _, answer = server.detect(content, f"?threshold={threshold!r}")
        assert answer["verdict"] == verdict
        assert answer["threshold"] == threshold


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?threshold=2", r"threshold is '2'"),
        ("?threshold=nan", r"\[0, 1\]"),
        ("?threshold=", "threshold"),
        ("?pictures=perhaps", "possible: 1, 0"),
        ("?treshold=0.5", "possible: threshold, crop, max_tiles, pictures, explain, list"),
        ("?" + "a" * 3000 + "=1", "Unknown option"),
    ],
)
def test_odd_options_are_400_with_a_sentence(server, photo, query, said):
    status, answer = server.detect(photo.read_bytes(), query)
    assert status == 400
    assert re.search(said, answer["error"])
    assert len(answer["error"]) < 300


def test_small_answers_are_as_described(server, description):
    for path, operations in description["paths"].items():
        if "get" in operations:
            status, answer = server.json("GET", path)
            assert status == 200
            check(answer, answer_schema(description, path, "get", 200), description["components"]["schemas"])
    model = server.json("GET", "/api/model")[1]
    assert (model["dataset"], model["resolution"], model["name"]) == ("cifake", 32, MODEL.name)
    assert model["trained_on"] == "cifake, 32 px"
    assert server.json("GET", "/healthz")[1] == {
        "status": "ok", "running": 0, "waiting": 0, "workers": 2, "queue": 64,
    }  # fmt: skip


def test_the_document_is_openapi_and_refers_to_nothing_that_is_not_there(description):
    assert description["openapi"].startswith("3.1")
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(description)))
    assert references == set(description["components"]["schemas"])
    for operations in description["paths"].values():
        for operation in operations.values():
            assert operation["operationId"]
            assert operation["description"]


def test_errors_are_described_and_carry_one_sentence(server, description):
    described = description["paths"]["/api/detect"]["post"]["responses"]
    requests = [
        (b"", {"Content-Type": "image/png"}, 400),
        (b"hello", {"Content-Type": "image/png"}, 422),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"x", {"Origin": "https://evil.example"}, 403),
        (b"x", {"Origin": "null"}, 403),
        (b"x", {"Host": "evil.example"}, 400),
        (b"x", {"Content-Length": str(1 << 40)}, 413),
    ]
    for body, headers, expected in requests:
        status, answer = server.json("POST", "/api/detect", body, headers)
        assert (status, list(answer)) == (expected, ["error"])
        assert str(status) in described
        assert re.fullmatch(r"[A-Z0-9].*[.]|.*photo\.jpg\.?", answer["error"]), answer
        assert "\n" not in answer["error"]
    assert server.json("GET", "/nonesuch")[0] == 404
    assert server.json("GET", "/api/detect")[0] == 405
    assert server.request("DELETE", "/")[0] == 405


def test_every_answer_is_guarded_and_none_speaks_to_other_sites(server):
    own = {"Origin": f"http://127.0.0.1:{server.port}"}
    for path in ("/", "/docs", "/openapi.json", "/healthz", "/nonesuch", "/api/detect"):
        body = b"x" if path == "/api/detect" else None
        _, headers, _ = server.request("POST" if body else "GET", path, body, own)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert headers["Server"] is None


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_are_self_contained_and_their_policy_allows_just_their_own_script_and_style(server, path):
    status, headers, content = server.request("GET", path)
    text = content.decode()
    assert status == 200
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        blocks = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        hashes = [
            f"'sha256-{base64.b64encode(hashlib.sha256(b.encode()).digest()).decode()}'" for b in blocks
        ]
        assert policy[directive] == " ".join(hashes or ["'none'"])
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert not re.search(r"\son\w+=|\sstyle=|url\(", text)
    assert server.request("HEAD", path)[2] == b""


def test_connections_are_kept(server, photo):
    connection = server.connect()
    for _ in range(5):
        connection.request("POST", "/api/detect", photo.read_bytes(), {"Content-Type": "image/jpeg"})
        assert connection.getresponse().read()
        local = connection.sock.getsockname()
        time.sleep(0.01)
        assert connection.sock.getsockname() == local
    connection.close()
