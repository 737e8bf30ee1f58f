"""Multipart and JSON bodies: what is taken out of them, compared with Starlette's own parser."""

import asyncio
import json
import random
from typing import AsyncGenerator, List, Optional, Tuple

import httpx
import pytest
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser

from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits
from allencv.serving.uploads import from_json, from_multipart, header_options

LIMITS = Limits(max_files=4)


def by_starlette(content_type: str, body: bytes) -> List[Tuple[str, bytes]]:
    async def parse() -> List[Tuple[str, bytes]]:
        async def stream() -> AsyncGenerator[bytes, None]:
            yield body

        form = await MultiPartParser(Headers({"content-type": content_type}), stream()).parse()
        files = [each for _, each in form.multi_items() if isinstance(each, UploadFile)]
        return [(each.filename or "", await each.read()) for each in files]

    return asyncio.run(parse())


def by_us(content_type: str, body: bytes) -> List[Tuple[str, bytes]]:
    _, options = header_options(content_type, "Content-Type")
    uploads = from_multipart(options, body, LIMITS)
    return [(upload.name or "", upload.file) for upload in uploads.images]


def test_multipart_as_starlette_reads_it() -> None:
    """Contents that look like boundaries, names of all kinds, and fields among the files."""
    dice = random.Random(0)
    pieces = [
        b"\r\n",
        b"--",
        b"\r\n--xyz",
        b"--xyz--",
        b"xyz",
        b"\0\xff",
        b"\r",
        b"\n",
        b"a: b\r\n",
    ]
    names = ["photo.jpg", "größe.png", 'a"b.png', "a;b.png", "äöü" * 50, "\N{CAT}.jpg"]
    for _ in range(200):
        files = [
            ("files", (dice.choice(names), b"".join(dice.choices(pieces, k=dice.randint(0, 9)))))
            for _ in range(dice.randint(1, 4))
        ]
        # httpx takes a boundary of its own choice, which the contents do not hold
        fields = {"text": "value"} if dice.random() < 0.3 else None
        request = httpx.Request("POST", "http://a", files=files, data=fields)
        content_type, body = request.headers["Content-Type"], request.read()
        assert by_us(content_type, body) == by_starlette(content_type, body)
        preamble = b"to be ignored\r\n" + body + b"also ignored"
        assert by_us(content_type, preamble) == by_us(content_type, body)


PART = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n'


@pytest.mark.parametrize("length", range(len(PART) + len(b"--xyz--")))
def test_multipart_that_is_cut_short(length: int) -> None:
    body = (PART + b"--xyz--")[:length]
    with pytest.raises(RequestError, match="multipart body"):
        from_multipart({"boundary": b"xyz"}, body, LIMITS)


def test_the_name_of_a_file_is_cut_down_to_its_last_part() -> None:
    body = PART.replace(b'"a"', b'"../x/\\\\y/b.png"') + b"--xyz--\r\n"
    assert from_multipart({"boundary": b"xyz"}, body, LIMITS).images[0].name == "b.png"


@pytest.mark.parametrize("count", [4, 5, 100_000])
def test_many_parts(count: int) -> None:
    if count <= LIMITS.max_files:
        images = from_multipart({"boundary": b"xyz"}, PART * count + b"--xyz--", LIMITS).images
        assert [each.file for each in images] == [b"abc"] * count
        return
    with pytest.raises(RequestError) as error:
        from_multipart({"boundary": b"xyz"}, PART * count + b"--xyz--", LIMITS)
    assert error.value.status == 413


def test_a_boundary_across_two_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for piece in range(1, 40):
        monkeypatch.setattr("allencv.serving.uploads.PIECE", piece)
        images = from_multipart({"boundary": b"xyz"}, PART * 2 + b"--xyz--", LIMITS).images
        assert [each.file for each in images] == [b"abc", b"abc"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a JSON object"),
        ("{", "not valid JSON"),
        ('{"images": NaN}', "not valid JSON"),
        ('{"images": [Infinity]}', "not valid JSON"),
        ('{"images": "YQ=="}', "expected"),
        ('{"images": []}', '"images" is empty'),
        ('{"images": [1]}', r"images\[0\] is not a string"),
        ('{"images": ["YQ==", "?"]}', r"images\[1\] is not base64"),
        ('{"payload": {"inputs": {"data": "YQ=="}}, "session": 1e999}', "session is not a string"),
        ('{"payload": {"inputs": {"data": "YQ=="}}, "session": []}', "session is not a string"),
        ('{"payload": {"inputs": []}}', "no base64 text"),
    ],
)
def test_json_that_is_refused(content: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as error:
        from_json(content.encode(), LIMITS)
    assert error.value.status == 400


def test_json() -> None:
    uploads = from_json(b'{"images": ["YQ==", "data:image/png;base64,Yg=="]}', LIMITS)
    assert [each.file for each in uploads.images] == [b"a", b"b"]
    text = json.dumps({"session": "ü", "payload": {"inputs": {"data": "YQ=="}}})
    uploads = from_json(text.encode(), LIMITS)
    assert (uploads.session, uploads.is_flash, uploads.images[0].file) == ("ü", True, b"a")


def with_head(head: str, content: bytes = b"abc") -> bytes:
    return b"--xyz\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n--xyz--\r\n"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("", None),
        ("; filename*=UTF-8''na%C3%AFve%20photo.jpg", "naïve photo.jpg"),
        ("; filename*=utf-8'en'a.jpg", "a.jpg"),
        ("; filename*=iso-8859-1''na%EFve.jpg", "naïve.jpg"),
        ("; filename*=\"UTF-8''a.jpg\"", "a.jpg"),
        ("; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("; filename*=UTF-8''%ED%A0%80.jpg", "\ufffd\ufffd\ufffd.jpg"),
        ("; filename*=nosuch''a.jpg", None),
        ("; filename=\"x.jpg\"; filename*=UTF-8''y.jpg", "x.jpg"),
        ("; filename*=UTF-8''y.jpg; filename=x.jpg", "x.jpg"),
        ('; FileName="a.jpg"', "a.jpg"),
        (';\r\n\tfilename="a.jpg"', "a.jpg"),
    ],
)
@pytest.mark.parametrize("header", ["Content-Disposition", "cOnTent-DISPOSITION "])
def test_names_of_files(header: str, options: str, name: Optional[str]) -> None:
    """A part in the field `file` is an image, whether or not it has a name that we know."""
    body = with_head(f'{header}: form-data; name="file"{options}')
    (upload,) = from_multipart({"boundary": b"xyz"}, body, LIMITS).images
    assert (upload.file, upload.name) == (b"abc", name)


def test_a_field_that_is_not_known_is_named_if_it_is_a_file() -> None:
    other = with_head('Content-Disposition: form-data; name="note"')
    assert from_multipart({"boundary": b"xyz"}, other, LIMITS).images == []
    for name in ("filename=a", "filename*=UTF-8''a"):
        body = with_head(f'Content-Disposition: form-data; name="upload"; {name}')
        with pytest.raises(RequestError, match="'upload'; expected one of file, files"):
            from_multipart({"boundary": b"xyz"}, body, LIMITS)


@pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable"])
def test_a_part_that_is_encoded_as_text(encoding: str) -> None:
    head = 'Content-Disposition: form-data; name="file"\r\nContent-Transfer-Encoding: '
    with pytest.raises(RequestError, match=f"'{encoding}'; send the file without") as error:
        from_multipart({"boundary": b"xyz"}, with_head(head + encoding), LIMITS)
    assert error.value.status == 415
    assert from_multipart({"boundary": b"xyz"}, with_head(head + "BINARY"), LIMITS).images
