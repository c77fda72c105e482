"""Secret files: their content, and errors that name the file."""

import pytest

from edge.net.secret_files import SecretFileError, read_secret


def test_content(tmp_path):
    (tmp_path / "token").write_text(" secret\n")
    assert read_secret(str(tmp_path / "token")) == "secret"
    assert read_secret(None) == ""


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b" \n", "{path} is empty"),
        (b"\xff", "can't decode.*: {path}"),
        (None, "No such file.*: {path}"),
    ],
)
def test_missing_and_invalid_secrets(tmp_path, content, error):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SecretFileError, match=error.format(path=path)):
        read_secret(str(path))
