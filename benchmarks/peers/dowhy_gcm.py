"""dowhy.gcm as a peer of benchmarks/speed.py; it runs in an environment of its own and knows nothing of deepscm.

    python dowhy_gcm.py COLUMNS.npz

reads columns x, y, z to fit models on (the graph x -> y, x -> z, y -> z), then answers one JSON line for each JSON line
`{"model": "linear", "query": "sample", "rows": 100, "repeats": 3}` with the processor seconds of a call.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

warnings.filterwarnings("ignore")

import dowhy  # noqa: E402
import networkx as nx  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from dowhy import gcm  # noqa: E402
from dowhy.gcm._noise import compute_noise_from_data  # noqa: E402  # the abduction step of counterfactual_samples
from sklearn.ensemble import GradientBoostingRegressor  # noqa: E402

VALUE = 1.5  # of do(x)
MODELS = ("linear", "boosting", "sklearn boosting")


def regressor(model: str) -> Any:
    """A prediction model: two that the library offers, and scikit-learn's other boosting, which predicts faster."""
    if model == "linear":
        return gcm.ml.create_linear_regressor()
    if model == "boosting":
        return gcm.ml.create_hist_gradient_boost_regressor(random_state=0)
    return gcm.ml.SklearnRegressionModel(GradientBoostingRegressor(random_state=0))


def fitted(model: str, data: pd.DataFrame) -> gcm.InvertibleStructuralCausalModel:
    """Additive noise models with empirical noise, the library's defaults."""
    scm = gcm.InvertibleStructuralCausalModel(nx.DiGraph([("x", "y"), ("x", "z"), ("y", "z")]))
    scm.set_causal_mechanism("x", gcm.EmpiricalDistribution())
    for name in ("y", "z"):
        scm.set_causal_mechanism(name, gcm.AdditiveNoiseModel(regressor(model)))
    gcm.fit(scm, data)
    return scm


def query(scm: Any, kind: str, data: pd.DataFrame) -> Callable[[], Any]:
    """A query as a function without arguments."""
    if kind == "sample":
        return lambda: gcm.draw_samples(scm, len(data))
    if kind == "abduct":
        return lambda: compute_noise_from_data(scm, data)
    if kind == "counterfactual":
        return lambda: gcm.counterfactual_samples(scm, {"x": lambda x: VALUE}, observed_data=data)
    raise ValueError(f"query {kind!r} came; sample, abduct or counterfactual is expected.")


def main() -> None:
    gcm.config.disable_progress_bars()
    with np.load(sys.argv[1]) as columns:
        data = pd.DataFrame({name: columns[name] for name in columns.files})
    models = {model: fitted(model, data) for model in MODELS}
    print(json.dumps({"dowhy": dowhy.__version__}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        repeated = -(-asked["rows"] // len(data))
        rows = pd.concat([data] * repeated, ignore_index=True).iloc[: asked["rows"]].copy()
        call = query(models[asked["model"]], asked["query"], rows)
        start = time.process_time()
        for _ in range(asked["repeats"]):
            call()
        print(json.dumps({"seconds": (time.process_time() - start) / asked["repeats"]}), flush=True)


if __name__ == "__main__":
    main()
