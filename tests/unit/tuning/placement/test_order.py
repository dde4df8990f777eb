"""The heaviest first, as a plain sort has them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from wideloop.tuning.placement.order import heaviest, heaviest_first

#: Whole numbers: what differs at all differs by far more than what counts as equal.
loads = arrays.arrays(
    np.float64, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 10**6).map(float)
)


@given(loads)
def test_it_is_a_stable_sort_by_falling_load(load):
    assert np.array_equal(heaviest_first(load), np.argsort(-load, axis=1, kind="stable"))


@given(loads, st.data())
def test_the_heaviest_are_the_first_of_that_sort(load, data):
    count = data.draw(st.integers(1, load.shape[1]))
    assert np.array_equal(np.sort(heaviest(load, count), axis=1), np.sort(heaviest_first(load)[:, :count], axis=1))


def test_the_load_is_left_as_it_is():
    load = np.array([[1.0, 3.0, 2.0]])
    heaviest_first(load)
    assert load.tolist() == [[1.0, 3.0, 2.0]]
