"""Every measure agrees with the plain loop on layers of every kind, or refuses in one sentence."""

import pytest
import zoo
import zoo_layers


@pytest.mark.parametrize("entry", zoo.of(zoo_layers))
def test_every_measure_agrees_or_refuses(entry, complaints):
    assert not complaints(entry, dear=False)


@pytest.mark.slow
@pytest.mark.parametrize("entry", zoo.of(zoo_layers))
def test_so_do_those_that_take_long_to_compile(entry, complaints):
    assert not complaints(entry, dear=True)
