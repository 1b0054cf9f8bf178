"""What both test files ask from."""

import pytest
import testinfra


@pytest.fixture(scope="session")
def router(request):
    inventory = request.config.option.ansible_inventory
    return testinfra.get_host("ansible://fw-c", ansible_inventory=inventory)
