"""Score files for `bdd detect`: load, score, explain, print records and write the contact sheet."""
