"""AutoGluon's medium preset, in its own environment: `medium.py FOLDER TARGET METRIC SECONDS [CLASS …]`.

Reads train.parquet and test.parquet of the folder; writes what it says of the test as said.npy, (rows, classes) or (rows,), and prints JSON.
"""

import json
import sys
import time

import numpy as np
import pandas as pd
from autogluon.tabular import TabularPredictor


def main() -> None:
    folder, target, metric, seconds, *classes = sys.argv[1:]
    train, test = (pd.read_parquet(f"{folder}/{part}.parquet") for part in ("train", "test"))
    began = time.perf_counter()
    model = TabularPredictor(label=target, path=f"{folder}/autogluon", verbosity=1, eval_metric=metric)
    model.fit(train, presets="medium_quality", time_limit=float(seconds))
    took = time.perf_counter() - began
    said = model.predict_proba(test) if classes else model.predict(test)
    if classes:
        said = said.rename(columns=str)[classes]
    np.save(f"{folder}/said.npy", said.to_numpy(dtype=float))
    print(json.dumps({"seconds": took, "models": model.model_names(), "chosen": model.model_best}))


if __name__ == "__main__":
    main()
