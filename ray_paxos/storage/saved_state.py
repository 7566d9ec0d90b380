"""What a learner saves of its own state, on its way to becoming a checkpoint.

```
learner/saved/group=<g>/<instance_id>/      in the format of a checkpoint, the learner's
checkpointer/group=<g>/<instance_id>/       copied from there, verified, and then published
```

Each of the two writes its own folder only. A machine that is too big to be held twice in memory
is thus on the disk twice, for as long as the copy takes.
"""

from __future__ import annotations

from ray_paxos.core.tasks import CheckpointMade
from ray_paxos.errors import StorageError
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoints import CheckpointPlace, verify_checkpoint

CHUNK_BYTES = 1_000_000


def saved_folder(group: int) -> str:
    """Where a learner saves its state of a group."""
    return f"learner/saved/group={group}"


def drop_all(folder: CheckpointFolder) -> None:
    """Remove everything that was saved before.

    Raises:
        StorageError: The disk refuses.
    """
    for instance_id in folder.instances:
        folder.drop(instance_id)


def drop_saved(place: CheckpointPlace) -> None:
    """Remove what was saved, if anything was.

    Raises:
        StorageError: The disk refuses.
    """
    if place.disk.exists(place.folder):
        drop_all(CheckpointFolder.open(place))


def take_saved(
    place: CheckpointPlace, folder: CheckpointFolder, instance_id: int
) -> CheckpointMade:
    """Make a checkpoint of what the learner has saved.

    Args:
        place: Where it was saved.
        folder: Takes the checkpoint.
        instance_id: As of which instance.

    Raises:
        DamageError: It is not what was saved.
        StorageError: It is gone, or the disk refuses.
    """
    manifest = verify_checkpoint(place, instance_id)
    present = folder.begin(manifest)
    source = place.path(instance_id)
    for file in manifest.files:
        offset = present[file.path]
        while offset < file.size:
            data = place.disk.read(f"{source}/{file.path}", offset, CHUNK_BYTES)
            if not data or not folder.write_chunk(instance_id, file.path, offset, data):
                raise StorageError(f"{place.disk.where(source)} was taken away meanwhile")
            offset += len(data)
    folder.publish(instance_id)
    return CheckpointMade(manifest.cut, manifest.byte_count)
