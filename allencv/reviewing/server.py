import secrets

from allencv.reviewing.app import LIMITS, create_review_app
from allencv.reviewing.session import ReviewSession
from allencv.runtime.plurals import numbered
from allencv.serving.command import listening_at
from allencv.serving.server import Server

HOST = "127.0.0.1"


def serve_review(session: ReviewSession, port: int = 0) -> None:
    """
    Show a review on a page of this machine until the process is told to stop (Ctrl-C). Print its
    address, which has a secret part.

    # Parameters

    port : 0 takes a free one.

    # Raises

    `InputError` if the port cannot be used.
    """
    token = secrets.token_urlsafe(16)
    with listening_at(HOST, port) as listening:
        url = f"http://{HOST}:{listening.getsockname()[1]}/{token}/"
        images = numbered(session.left, "image")
        greeting = f"Review {images} at {url}\nCtrl-C ends the review. Answers are saved at once."
        Server(create_review_app(session, token), LIMITS, greeting).run(sockets=[listening])
