from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.statistics import model_statistics


def test_a_file_without_our_metadata_is_counted_all_the_same(binary_model):
    found = model_statistics(parse_tflite(binary_model.content))
    assert found.binary_macs > 0
    assert found.bytes_by_kind["structure"] > 0
