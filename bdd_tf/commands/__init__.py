"""The verbs of `bdd`: one module per verb, with ``add_arguments(parser)`` and ``main(args)``."""
