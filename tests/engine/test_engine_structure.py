import keras
import numpy as np
import pytest
from keras import layers, ops

import aggregation
from engine import backend, structure, variants


def test_parts_of_nested_layers_belong_to_the_innermost():
    inner = keras.Sequential([keras.Input((5, 4)), layers.Dense(4, name="deep")])
    tokens = keras.Input((5,))
    hidden = layers.Embedding(7, 4)(tokens)
    hidden = inner(layers.MultiHeadAttention(2, 3)(hidden, hidden))
    parts = structure.parts(keras.Model(tokens, layers.Dense(2)(hidden)))
    owners = [part.layer.name for part in parts]
    assert owners[1:9:2] == ["query", "key", "value", "attention_output"] and "deep" in owners
    assert parts[0].role == "embeddings"
    assert not any(structure.is_convolution_kernel(part) for part in parts)


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="Expected a built model"):
        structure.parts(keras.Sequential([layers.Dense(2)]))


def test_units_and_ids_run_over_the_layer_and_never_over_two():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3), layers.Dense(1)])
    groups = structure.grouped(structure.parts(model), structure.unit_labels)
    assert [g.tolist() for g in groups] == [[[0, 1, 2], [0, 1, 2]], [0, 1, 2], [[3], [3], [3]], [3]]
    assert all(np.array_equal(a, b) for a, b in zip(groups, aggregation.load("unit").groups(model), strict=True))


@pytest.mark.parametrize("labels", [[4, 2, 2, 7], [5], [], [0, 10**9, 0], [1, 2, 3]])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_labels_are_numbered_in_their_order(labels, dtype):
    labels = np.array(labels, dtype)
    expected = np.unique(labels, return_inverse=True, return_counts=True)
    values, numbers, counts = structure.numbered(labels)
    assert all(np.array_equal(a, b) for a, b in zip((values, numbers, counts), expected, strict=True))


def test_ids_that_repeat_take_no_memory():
    parts = structure.parts(keras.Sequential([keras.Input((500,)), layers.Dense(3)]))
    kernel, bias = structure.grouped(parts, structure.unit_labels)
    assert kernel.strides[0] == 0 and (kernel == bias).all() and not kernel.flags.writeable


def transformer():
    given = keras.Input((4, 6))
    hidden = layers.Activation("relu")(layers.Dense(6, activation="gelu")(given)) + ops.ones_like(given)
    hidden = layers.MultiHeadAttention(2, 3, dropout=0.1)(hidden, layers.Dropout(0.2)(hidden))
    return keras.Model(given, layers.Dense(3)(keras.Sequential([layers.Flatten(), layers.Dense(5)])(hidden)))


def test_the_same_model_is_described_alike_whenever_it_is_built():
    # The first dropout of a process is called "dropout", as is a setting of attention, and the next one "dropout_1".
    keras.backend.clear_session()
    first, second = structure.described(transformer()), structure.described(transformer())
    assert first == second and '"dropout": 0.1' in first
    wider = keras.Sequential([keras.Input((4, 6)), layers.Dense(7)])
    assert structure.described(wider) != structure.described(keras.Sequential([keras.Input((4, 6)), layers.Dense(6)]))


def test_variants():
    assert "magnitude" in variants.names("importance") and not any(n.startswith("_") for n in variants.names("tasks"))
    with pytest.raises(
        ValueError,
        match=r"files in aggregation/ \(attention_head, .*, hidden_unit, layer, unit, weight\), received 'units'",
    ):
        variants.load("aggregation", "units", "LEVEL")
    with pytest.raises(ValueError, match=r"aggregation/unit\.py to define MEASURE"):
        variants.load("aggregation", "unit", "MEASURE")


def test_a_file_that_changes_under_a_process_is_not_taken_for_what_it_says(tmp_path, monkeypatch):
    package = tmp_path / "families"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("MEASURE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert variants.load("families", "one", "MEASURE") == 1
    (package / "one.py").write_text("# a word\nMEASURE  =  1\n")  # which changes nothing
    assert variants.load("families", "one", "MEASURE") == 1
    (package / "one.py").write_text("MEASURE = 2\n")
    with pytest.raises(variants.Changed, match=r"Expected families/one\.py as .* changed since. Start the process"):
        variants.load("families", "one", "MEASURE")


# The seam


def test_versions_and_device():
    assert set(backend.versions()) == {"python", "keras", "numpy", backend.NAME}
    assert isinstance(backend.device(), str)


def test_gradients_at_taps_and_of_arrays():
    x = backend.on_device(np.array([1.0, 2.0], "float32"))

    def run(tap):
        y = tap("y", 3 * x)
        unused = tap("unused", x + 1)
        return [keras.ops.sum(y**2), keras.ops.sum(y)], {"out": y, "unused": unused}

    gradients, extra = backend.gradients_at_taps(run)
    assert np.asarray(gradients["y"]).tolist() == [[6.0, 12.0], [1.0, 1.0]]
    assert np.asarray(gradients["unused"]).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert np.asarray(extra["out"]).tolist() == [3.0, 6.0]
    found = backend.gradients(lambda a: keras.ops.sum(a[0] ** 3), [x, x + 1])
    assert [np.asarray(g).tolist() for g in found] == [[3.0, 12.0], [0.0, 0.0]]
    vectors = [[keras.ops.ones(2)], [x]]
    products, cubes = backend.hessian_vector_products(lambda a: (keras.ops.sum(a[0] ** 3), a[0] ** 3), [x], vectors)
    assert [np.asarray(product).tolist() for (product,) in products] == [[6.0, 12.0], [6.0, 24.0]]
    assert np.asarray(cubes).tolist() == [1.0, 8.0]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_choice_is_made_at_once_where_nothing_is_compiled(compiled):
    asked = []

    def chosen(condition, x):
        return backend.cond(condition, lambda: asked.append(1) or x + 1, lambda: asked.append(2) or x - 1)

    function = backend.compiled(chosen, xla=False) if compiled else chosen
    for condition, expected in ((True, 3.0), (False, 1.0)):
        asked.clear()
        found = function(keras.ops.convert_to_tensor(condition), keras.ops.convert_to_tensor(2.0))
        assert float(found) == expected and (compiled or asked == [1 if condition else 2])


def test_read_and_copied_do_not_follow_later_assignments():
    variable = keras.Variable([1.0])
    read, copied = backend.read(variable), backend.copied(variable)
    variable.assign([2.0])
    assert np.asarray(read).tolist() == copied.tolist() == [1.0]


@pytest.mark.parametrize("astray", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_vectorised(compiled, astray, monkeypatch):
    monkeypatch.setattr(backend, "_onednn_writes_astray", lambda: astray)

    def function(arrays):
        return backend.vectorised(lambda pair: pair[0] * pair[1][0], arrays)

    function = backend.compiled(function, xla=False) if compiled else function
    arrays = tuple(backend.on_device(a) for a in (np.arange(3.0), np.ones((3, 2))))
    assert np.asarray(function(arrays)).tolist() == [0, 1, 2]
