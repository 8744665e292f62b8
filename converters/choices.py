"""Values of `bdd convert`'s options, known without TensorFlow."""

#: Values of ``--weights``; ``narrow`` compresses the vectors of a binary network as well.
WEIGHTS = ("int8", "float32", "narrow")
#: Precisions of a delegate-free export, the values of ``--twin``.
DELEGATE_FREE = ("float", "int8")
