import pytest

from leptonai.core import plugins
from leptonai.core.errors import Unsupported


@pytest.mark.parametrize("port", ["catalogs", "stores", "executors", "frameworks", "runtimes"])
def test_our_adapters_enter_by_the_same_door_as_everybodys(port: str) -> None:
    assert plugins.names(port)


def test_what_is_not_installed_is_named_with_what_is() -> None:
    with pytest.raises(Unsupported, match=r"redis.*postgresql, sqlite"):
        plugins.catalog("redis://x")
    with pytest.raises(Unsupported, match=r"builtins\.dict.*Keras"):
        plugins.framework_of({})
