"""Answers of the service have the evidence of a file, beside a score that does not depend on it."""

from tests.edge.evidence.cases import CASES
from tests.edge.evidence.containers import encoded


def test_an_answer_has_the_evidence_of_the_file(server):
    status, made = server.detect(CASES["png parameters"].make())
    plain_status, plain = server.detect(encoded("PNG"))
    assert (status, plain_status) == (200, 200)
    (item,) = made["evidence"]
    assert item["kind"] == "generator"
    assert list(item) == ["kind", "says", "where", "strength"]
    assert "evidence" not in plain
    assert made["fake_probability"] == plain["fake_probability"]
