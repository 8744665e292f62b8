# %% [markdown]
# # Reading the report
#
# `bdd report` (or `make report`) puts all run folders into one table. Here it reads a copy of `results/`, the small files of
# the long runs; your own runs are in `runs/`.

# %%
import json
import os
import shutil
from pathlib import Path

if Path.cwd().name == "notebooks":
    os.chdir("..")  # the project's folder, as for all commands

from IPython.display import Image, Markdown, display

from bdd_tf import figures
from bdd_tf.reports import rows, store, tables
from bdd_tf.runs import Run

OUTPUT = Path("build/notebooks")
RUNS = OUTPUT / "results"
shutil.rmtree(RUNS, ignore_errors=True)
shutil.copytree("results", RUNS)
runs = store.runs_in(RUNS)
display(Markdown(tables.runs([rows.describe(run) for run in runs])))

# %% [markdown]
# - **val.** chose the checkpoint and the threshold, **test** was looked at once. Compare runs by test.
# - In brackets stand 95 % bootstrap intervals over images. Two runs whose intervals overlap may still differ for sure,
#   since they were tested on the same images: `bdd report --compare RUN RUN` pairs them (McNemar's exact test).
# - **deduplicated** leaves out test images that are pixel for pixel in the training data too. If it were much lower, the
#   run would have learnt by heart.
# - Below the table stands what a run lacks, and the command that makes it.
#
# ## One run
#
# Its `metrics-test.json` says more than the table: the threshold and where it comes from, the confusion in counts, and
# each class by itself. `accuracy_real` is the share of real images that are left alone; one minus it is the rate of false
# alarms, which matters most where nearly all images are real.

# %%
run = Run(RUNS / "cifake-bnext-n")
metrics = json.loads(run.metrics("test").read_text())
for key in ("images", "threshold", "accuracy", "accuracy_real", "accuracy_fake", "auc", "eer", "confusion"):
    print(f"{key:14} {metrics[key]}")

# %%
display(
    Image(
        figures.confusion_matrix(OUTPUT / "confusion.png", metrics["confusion"], title="test split"),
        width=420,
    )
)

# %% [markdown]
# Among 1,000 images of which 10 are fake, how many alarms are false? The share of fakes in a test split is not that of
# the world:

# %%
real, fake = 990, 10
false_alarms = real * (1 - metrics["accuracy_real"])
found = fake * metrics["accuracy_fake"]
print(
    f"{false_alarms:.0f} false alarms and {found:.1f} fakes found: {found / (found + false_alarms):.0%} of alarms are right"
)

# %% [markdown]
# ## How the training went
#
# One line per epoch in `history.csv`. Validation that falls while training rises would be overfitting; a validation curve
# that still climbs at the end asks for more epochs.

# %%
display(Image(figures.training_history(OUTPUT / "history.png", run.history, title=run.name), width=860))
