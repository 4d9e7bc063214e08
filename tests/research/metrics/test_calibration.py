import numpy as np
import pytest

from research.metrics.calibration import expected_calibration_error, reliability


def test_calibration_error_is_the_distance_of_confidence_from_accuracy():
    confidence = np.array([0.9] * 10 + [0.6] * 10)
    correct = np.array([True] * 9 + [False] + [True] * 3 + [False] * 7)
    assert expected_calibration_error(confidence, correct, 10) == pytest.approx(0.5 * 0.0 + 0.5 * 0.3)
    assert expected_calibration_error(np.ones(3), np.array([True] * 3), 15) == 0


def test_the_bins_of_a_reliability_diagram():
    confidence = np.array([0.05, 0.4, 0.6, 0.7, 1.0], np.float32)
    found = reliability(confidence, np.array([True, False, True, False, True]), 4)
    np.testing.assert_array_equal(found.count, [1, 1, 2, 1])
    np.testing.assert_allclose(found.confidence, [0.05, 0.4, 0.65, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found.accuracy, [1, 0, 0.5, 1])


def test_empty_bins_are_no_number_and_what_is_no_number_is_in_no_bin():
    with np.errstate(invalid="ignore"):
        found = reliability(np.array([np.nan, 0.9]), np.array([False, True]), 2)
    np.testing.assert_array_equal(found.count, [0, 1])
    assert np.isnan(found.confidence[0]) and np.isnan(found.accuracy[0])
