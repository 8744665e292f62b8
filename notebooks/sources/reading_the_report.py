# %% [markdown]
# # Reading the report
#
# `bdd report` summarises all runs in a table. This notebook uses a copy of `results/`, which contains the small files of the
# long runs; your own runs are in `runs/`.

# %%
import json
import os
import shutil
from pathlib import Path

if Path.cwd().name == "notebooks":
    os.chdir("..")  # all commands run in the project's folder

from IPython.display import Image, Markdown, display

from bdd_tf.figures import evaluation, training
from bdd_tf.reports import run_summary, store, tables
from bdd_tf.runs import Run

OUTPUT = Path("build/notebooks")
RUNS = OUTPUT / "results"
shutil.rmtree(RUNS, ignore_errors=True)
shutil.copytree("results", RUNS)
runs = store.runs_in(RUNS)
display(Markdown(tables.runs([run_summary.describe(run) for run in runs])))

# %% [markdown]
# - The checkpoint and the threshold were chosen on the validation split (**val.**); the **test** split was evaluated once.
#   Compare runs by their test results.
# - Brackets contain 95 % bootstrap intervals over images. Two runs with overlapping intervals may still differ
#   significantly, because they were tested on the same images: `bdd report --compare RUN RUN` runs a paired test (McNemar).
# - **deduplicated** excludes test images that also occur in the training data. A much lower value would indicate that the
#   network memorised its training images.
# - Below the table, missing files are listed with the commands that write them.
#
# ## One run
#
# `metrics-test.json` contains more than the table: the threshold and its origin, the confusion matrix, and the accuracy of
# each class. `accuracy_real` is the specificity; one minus it is the false positive rate, which is decisive if nearly all
# images are real.

# %%
run = Run(RUNS / "cifake-bnext-n")
metrics = json.loads(run.metrics("test").read_text())
for key in ("images", "threshold", "accuracy", "accuracy_real", "accuracy_fake", "auc", "eer", "confusion"):
    print(f"{key:14} {metrics[key]}")

# %%
display(
    Image(
        evaluation.confusion_matrix(OUTPUT / "confusion.png", metrics["confusion"], title="test split"),
        width=420,
    )
)

# %% [markdown]
# Of 1,000 images, 10 of which are fake, how many are false positives? In practice the share of fakes is not that of the test
# split:

# %%
real, fake = 990, 10
false_alarms = real * (1 - metrics["accuracy_real"])
found = fake * metrics["accuracy_fake"]
print(
    f"{false_alarms:.0f} false alarms and {found:.1f} fakes found: {found / (found + false_alarms):.0%} of alarms are right"
)

# %% [markdown]
# ## Training history
#
# `history.csv` has a row per epoch. Falling validation accuracy with rising training accuracy would indicate overfitting; a
# validation curve that still rises at the end suggests more epochs.

# %%
display(Image(training.training_history(OUTPUT / "history.png", run.history, title=run.name), width=860))
