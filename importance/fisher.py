"""mean_n sum_c p_c(x_n) (d log p_c(x_n) / dw)^2: the exact Fisher diagonal, labels as the model expects them.

It is the curvature of the loss where the model fits its own labels, and does not vanish with the training loss. For a
regression with K outputs and l_n = mean_k (y_k - f_k)^2, whose labels are normal with variance K/2, it is
mean_n (2/K) sum_k (df_k / dw)^2. The cost is a backward pass a class (or output), ten of them after one forward pass.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="zeros")])
    >>> importance.load("fisher").score(model, np.array([[2.0]]))[0].round(3).tolist()  # 2^2 p (1 - p) with p = 1/2
    [[1.0, 1.0]]

References:
    Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017;
    van de Ven, "On the computation of the Fisher information in continual learning", arXiv 2502.11756 (2025).
"""

from importance import Measure
from importance._fisher import exact


def score(evidence):
    """Average the squared gradient of each class's log-probability, weighted with the probability."""
    return exact(evidence)


MEASURE = Measure(score, needs="inputs", cost="1 backward pass a class")
