from bdd_tf.edge.anatomy import dissect
from bdd_tf.edge.tflite_file import parse_tflite


def test_a_file_without_our_metadata_is_counted_all_the_same(binary_model):
    found = dissect(parse_tflite(binary_model.content))
    assert found.binary_macs > 0
    assert found.bytes_by_kind["structure"] > 0
