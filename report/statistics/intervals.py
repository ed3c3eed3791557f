"""How far a mean or a median over networks can be trusted."""

import numpy as np

FEW = 5
"""Of fewer networks each is drawn: their Student's t interval says little but that they are few."""

BANDS = {False: "bands: 95 % Student's t intervals", True: "thin lines: each network"}
"""What stands around the lines of a figure: of enough networks, and of few."""


def student_t(values, confidence=0.95):
    """Bracket the mean by Student's t interval.

        mean +- t(n - 1) * s / sqrt(n),    s^2 = sum (x - mean)^2 / (n - 1)

    Args:
        values: array (networks,). Missing values are left out.
        confidence: float.

    Returns:
        (mean, low, high): floats; low and high are NaN for a single value, all for none.

    Example:
        >>> [round(float(number), 2) for number in student_t(np.array([1.0, 2.0, 3.0]))]
        [2.0, -0.48, 4.48]
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    mean = values.mean()
    if len(values) == 1:
        return mean, np.nan, np.nan
    half = half_width(values.std(ddof=1), len(values), confidence)
    return mean, mean - half, mean + half


def half_width(deviation, number, confidence=0.95):
    """Return half the width of Student's t interval of a mean.

    Args:
        deviation: float or array. Sample standard deviation (divisor n - 1).
        number: int or array of the same shape. How many values; NaN results where there is only one.
        confidence: float.
    """
    from scipy.special import stdtrit

    number = np.asarray(number, float)
    freedom = np.where(number > 1, number - 1, np.nan)
    return stdtrit(freedom, (1 + confidence) / 2) * deviation / np.sqrt(number)


def paired_t(differences):
    """Test whether the mean of paired differences is zero: the two-sided t-test, dual to `student_t`.

    Args:
        differences: array (networks,).

    Returns:
        float, the p-value; 1 for fewer than two differences and where all are zero, 0 where all are the same otherwise.

    Example:
        >>> round(paired_t([1.0, 2.0, 3.0]), 4)  # t = 2 sqrt(3), two degrees of freedom
        0.0742
    """
    from scipy.special import stdtr

    differences = np.asarray(differences, float)
    number = len(differences)
    if number < 2 or not differences.any():
        return 1.0
    error = differences.std(ddof=1) / np.sqrt(number)
    return float(2 * stdtr(number - 1, -abs(differences.mean()) / error)) if error else 0.0
