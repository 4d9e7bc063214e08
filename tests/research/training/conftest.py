"""A training that several tests of the loop compare theirs with."""

import pytest
from training_loops import experiments, go


@pytest.fixture(scope="module", params=[True, False], ids=["stacked", "one after another"])
def uninterrupted(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    notes = go(folder, experiments(), stacked=request.param)
    assert notes.notes == []
    return folder, request.param
