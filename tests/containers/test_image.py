"""The image that hosts are made of: built, replaced, checked."""

from __future__ import annotations

import pytest

from cluster.containers import engine
from facesim.backends import image
from facesim.util.errors import InputError
from tests.containers.jobs import NAME

#: The first of them may have to wait for the image to be made.
pytestmark = pytest.mark.timeout(900)


def test_a_base_image_that_cannot_be_had_is_told(containers):
    with pytest.raises(InputError, match="no-such-base:1 is not here and cannot be pulled: .* another with --base"):
        image.build("facesim:never", base="no-such-base:1", tell=lambda line: None)


def test_the_image_that_a_new_one_replaces_is_removed_unless_it_is_in_use(containers, monkeypatch):
    client = engine.connect()
    name = f"{NAME}:replaced"
    made = client.containers.create(containers, entrypoint=["true"], name=NAME)
    unused = made.commit(changes=f"LABEL {image.SOURCE_LABEL}=unused").id
    used = made.commit(changes=f"LABEL {image.SOURCE_LABEL}=used").id
    user = client.containers.create(used, entrypoint=["true"], name=f"{NAME}-user")
    monkeypatch.delenv("FACESIM_CACHE")  # the user's own has the dependencies
    try:
        built = image.build(name, base=client.images.get(containers).labels[image.BASE_LABEL], tell=lambda line: None)

        kept = {each.id for each in client.images.list(all=True)}
        assert unused not in kept
        assert {used, built, client.images.get(containers).id} <= kept
    finally:
        made.remove()
        user.remove()
        client.images.remove(used)
        client.images.remove(name)


def test_an_image_that_was_made_from_another_facesim_is_told(containers):
    client = engine.connect()
    made = client.containers.create(containers, entrypoint=["true"], name=NAME)
    made.commit(repository=NAME, tag="other", changes=f"LABEL {image.SOURCE_LABEL}=other")
    made.remove()
    try:
        with pytest.raises(InputError, match="was made from another facesim than this; make it again"):
            image.check(f"{NAME}:other")
    finally:
        client.images.remove(f"{NAME}:other")
    with pytest.raises(InputError, match=f"there is no image {NAME}:other; make it with `facesim image build`"):
        image.check(f"{NAME}:other")
