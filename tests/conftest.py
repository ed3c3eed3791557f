"""What comes before everything that is tested."""

import engine  # noqa: F401, before Keras, whose backend it keeps quiet
