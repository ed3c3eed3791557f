"""An output neuron with its incoming weights and its bias; a filter with its bias; a channel's gamma and beta.

A unit is what makes one output (or channel) of a layer: weights that are replaced together change that output and no
other of the layer. What that is depends on the kind of layer:

- Dense, convolutions, EinsumDense: the kernel's weights of one output, and its bias. A Dense kernel has shape (inputs,
  units) and a Conv2D kernel (height, width, inputs, filters): the *last* axis tells units apart. Pooling over it
  instead, as earlier code did, mixes the units and separates the inputs. A transposed convolution has its filters on
  the last axis but one, a depthwise one (inputs, multiplier) on both. An EinsumDense layer has a unit for each value of
  the letters that kernel and output share; a bias that several units share belongs to none, and stands alone.
- Separable convolutions: each channel of the depthwise step is a unit, apart from the filters of the pointwise step.
- Recurrent layers (SimpleRNN, LSTM, GRU, ConvLSTM): a unit is all its gates, with what they get from the inputs and
  from the units before, and their biases. Through the recurrence the other units see it too.
- Attention layers: what holds for the EinsumDense layers that they are made of.
- Embedding: a column, which is one channel of what is looked up. Normalisations: gamma and beta of one place; PReLU:
  one alpha.

A layer of another kind, whose units nobody can know, is refused.
"""

from engine import structure

LEVEL = structure.unit_labels
