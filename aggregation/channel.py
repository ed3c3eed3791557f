"""A channel with all that makes it, across layers: what can be taken out of the network as a whole.

A channel is a unit or filter (its slice of the kernel, its bias), its gamma and beta in the normalisations behind it,
its kernel in depthwise layers behind it, and every channel that something ties to it: what a residual addition adds
stands or falls together. With zeros in its place the channel is gone: what comes behind it reads zeros.

- The weights that read a channel, such as the rows of the next kernel, are parts of the channels that these make.
- What reaches the model's inputs or outputs takes no part, nor do channels that are tied to it: the units of the output
  layer, and a residual addition to the inputs. Frozen channels take none either.
- A depthwise step keeps the channels that it is given; the pointwise one makes new ones. A recurrent unit is all its
  gates. Of an attention layer, what it gives are channels; what is inside of its heads takes no part (level
  `attention_head`). Of an embedding, columns are.
- Layers that are called several times, and models in models, are followed through each call, and joined.
- Gamma and beta of a LayerNormalization belong to their channel, but its statistics are those of all channels: taking
  one away changes the others. With zeros in its place, which is what a threshold does, it counts as one that is zero.
- A channel behind a function that makes something of zero, such as a sigmoid, leaves a constant.

The graph has to say where channels go: a model that is written as a subclass, and a layer or operation that
`engine.channel_rules` does not know, are refused.
"""

from engine import channels


def LEVEL(model):
    """Label the weights of a channel alike, in whatever layers they are."""
    made = channels.follow(model).made
    own = {id(v): labels for v, labels in zip(model.weights, made, strict=True)}
    return [own[id(v)] for v in model.trainable_variables]
