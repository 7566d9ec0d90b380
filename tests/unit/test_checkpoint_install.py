"""The steps to another member's checkpoint, and back where one of them fails."""

from __future__ import annotations

from ray_paxos.core.checkpoint_install import ASK_AGAIN_NS, CUT_AGAIN_NS, CheckpointInstall
from ray_paxos.core.checkpoint_messages import CheckpointReady, FetchCheckpoint
from ray_paxos.core.tasks import CutLog, LoadCheckpoint
from tests.unit.core_helpers import GROUP
from tests.unit.learner_bench import loaded


def ready(instance_id: int = 40) -> CheckpointReady:
    return CheckpointReady(instance_id)


def test_it_wants_none_by_itself() -> None:
    install = CheckpointInstall(GROUP)
    assert not install.is_wanted
    assert not install.bars_sealing
    assert install.due_ns is None
    assert install.take_due(10**15) is None
    assert install.take_loaded(0) is None


def test_from_the_wish_to_the_cut() -> None:
    install = CheckpointInstall(GROUP)
    assert install.want(9, (1, 3), 0) == FetchCheckpoint(9, (1, 3))
    assert install.is_wanted
    assert install.want(9, (3, 1), 1) is None, "one at a time"
    assert install.ready(ready(), 9, 5) == LoadCheckpoint(GROUP, 9)
    assert install.is_wanted
    assert not install.bars_sealing, "the old state goes on until the new one is in memory"
    found = loaded(40)
    install.loaded(found)
    assert install.bars_sealing
    assert install.take_loaded(20) is found
    assert install.take_loaded(20) is None
    assert install.cut(found) == CutLog(GROUP, 41, found.cut)
    assert not install.is_wanted
    assert install.bars_sealing, "until the log goes on after it"
    assert install.want(50, (1,), 0) is None
    assert install.ready(ready(60), 50, 0) is None, "it would overtake the cut"
    install.cut_done()
    assert not install.bars_sealing
    assert install.want(50, (1,), 0) is not None


def test_a_wish_is_told_again_as_the_checkpointer_may_have_been_restarted() -> None:
    install = CheckpointInstall(GROUP)
    install.want(9, (1, 3), 0)
    assert install.due_ns == ASK_AGAIN_NS
    assert install.take_due(ASK_AGAIN_NS - 1) is None
    assert install.take_due(ASK_AGAIN_NS) == FetchCheckpoint(9, (1, 3))
    assert install.due_ns == 2 * ASK_AGAIN_NS
    install.ready(ready(), 9, 0)
    assert install.due_ns is None
    assert install.take_due(10**15) is None, "loading takes as long as it takes"


def test_a_fetch_that_was_given_up_is_not_begun_again_at_once() -> None:
    install = CheckpointInstall(GROUP)
    install.want(9, (1, 3), 0)
    assert install.ready(CheckpointReady(0, "nobody has one"), 9, 7) is None
    assert install.problem == "nobody has one"
    assert not install.is_wanted, "other members may still have the log"
    assert install.due_ns is None
    assert install.want(9, (1, 3), 6 + ASK_AGAIN_NS) is None
    assert install.want(9, (1, 3), 7 + ASK_AGAIN_NS) == FetchCheckpoint(9, (1, 3))


def test_one_that_cannot_be_loaded_is_not_fetched_again_at_once() -> None:
    # It is there, whole: fetching it over and over would change nothing.
    install = CheckpointInstall(GROUP)
    install.want(9, (1, 3), 0)
    install.ready(ready(), 9, 0)
    install.failed("no machine of kind 'shelf'", 7)
    assert install.problem == "no machine of kind 'shelf'"
    assert not install.is_wanted
    assert not install.bars_sealing
    assert install.want(9, (1, 3), 6 + ASK_AGAIN_NS) is None
    assert install.want(9, (1, 3), 7 + ASK_AGAIN_NS) is not None


def test_one_that_came_too_late_is_not_loaded_nor_switched_to() -> None:
    install = CheckpointInstall(GROUP)
    install.want(9, (1, 3), 0)
    assert install.ready(ready(), 40, 0) is None
    assert not install.is_wanted
    install.want(9, (1, 3), 0)
    install.ready(ready(), 39, 0)
    install.loaded(loaded(40))
    assert install.take_loaded(40) is None
    assert not install.bars_sealing, "sealing goes on"
    assert not install.is_wanted


def test_ready_twice_is_loaded_once() -> None:
    install = CheckpointInstall(GROUP)
    install.want(9, (1, 3), 0)
    assert install.ready(ready(), 9, 0) is not None
    assert install.ready(ready(), 9, 0) is None
    install.loaded(loaded(40))
    assert install.ready(ready(50), 9, 0) is None


def test_a_cut_that_failed_is_tried_again_and_bars_sealing_meanwhile() -> None:
    install = CheckpointInstall(GROUP)
    found = loaded(40)
    order = install.cut(found)
    install.cut_failed("EIO", 3)
    assert install.problem == "EIO"
    assert install.bars_sealing
    assert install.take_due(2 + CUT_AGAIN_NS) is None
    assert install.take_due(3 + CUT_AGAIN_NS) is order
    assert install.take_due(10**15) is None, "it is on its way"
    install.cut_done()
    assert install.due_ns is None
    assert not install.bars_sealing
    assert install.problem == ""
