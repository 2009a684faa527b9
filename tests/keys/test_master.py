"""Derived keys and encryption under the master keys."""

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.keys import master
from app.keys.errors import UnknownMasterKey

OLD, NEW = (1, b"o" * 32), (2, b"n" * 32)


@pytest.fixture
def two_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master, "_keys", {})
    monkeypatch.setattr(master, "_current", 0)
    master.configure((NEW, OLD))


@pytest.mark.usefixtures("two_keys")
class TestMasterKeys:
    def test_each_label_salt_and_version_has_a_key_of_its_own(self) -> None:
        derived = [
            master.derive("a"),
            master.derive("b"),
            master.derive("a", salt=b"s"),
            master.derive("a", version=1),
            master.derive("a", salt=b"s", version=1),
        ]
        assert len(set(derived)) == 5
        assert all(len(key) == 32 for key in derived)

    def test_the_first_master_key_is_the_current_one(self) -> None:
        assert master.current_version() == 2
        assert master.derive("a") == master.derive("a", version=2)

    def test_keys_are_derived_as_the_standard_says(self) -> None:
        kdf = HKDF(algorithm=SHA256(), length=32, salt=b"salt", info=b"bursar a")
        assert master.derive("a", salt=b"salt") == kdf.derive(NEW[1])

    def test_a_version_that_is_not_in_the_settings_is_refused(self) -> None:
        with pytest.raises(UnknownMasterKey):
            master.derive("a", version=3)

    def test_what_was_encrypted_comes_back_under_the_version_it_was_made_with(self) -> None:
        sealed = master.encrypt("a", b"secret", context=b"row 1")
        assert b"secret" not in sealed
        assert master.decrypt("a", sealed, context=b"row 1", version=2) == b"secret"

    @pytest.mark.parametrize(
        ("label", "context", "version"),
        [("b", b"row 1", 2), ("a", b"row 2", 2), ("a", b"row 1", 1)],
    )
    def test_another_label_context_or_version_opens_nothing(
        self, label: str, context: bytes, version: int
    ) -> None:
        sealed = master.encrypt("a", b"secret", context=b"row 1")
        with pytest.raises(InvalidTag):
            master.decrypt(label, sealed, context=context, version=version)

    def test_the_same_secret_is_never_encrypted_to_the_same_bytes(self) -> None:
        sealed = {master.encrypt("a", b"secret", context=b"") for _ in range(20)}
        assert len(sealed) == 20
