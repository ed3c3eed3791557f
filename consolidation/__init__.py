"""Protect what matters: training on a new task with a penalty on the weights that earlier tasks need.

```python
optimizer = ElasticWeightConsolidation(keras.optimizers.Adam(1e-3), strength=82.0, penalty="stabilized")
model.compile(optimizer, loss, metrics=["accuracy"])
model.fit(x_a, y_a)
optimizer.consolidate(importances)  # a list of arrays like model.trainable_variables
model.fit(x_b, y_b, callbacks=[StabilityMeter()])
```
"""

import engine  # noqa: F401, before Keras, whose backend it keeps quiet
from consolidation._elastic import ACCUMULATE, ADAPTABLE, PENALTIES, ElasticWeightConsolidation, Stability, find
from consolidation._low_rank import Factors, LowRankConsolidation, enable_lora, factors, merge_lora
from consolidation._stability import StabilityMeter

__all__ = [
    "ACCUMULATE", "ADAPTABLE", "PENALTIES", "ElasticWeightConsolidation", "Factors", "LowRankConsolidation",
    "Stability", "StabilityMeter", "enable_lora", "factors", "find", "merge_lora",
]  # fmt: skip
