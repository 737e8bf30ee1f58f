import timm.optim
import torch

from allencv.catalogue.docstrings import read_docstring

OURS = """
    Mixes two images. They are of one batch:
    the second is another.

    Registered as a `Thing` with name "thing".

    # Example

    ```jsonnet
    { type: "thing", alpha: 1 }
    ```

    # Parameters

    Those of `Base`, and:

    alpha : `float`, required
        How much of the
        second image.

        Above 0.
    beta, gamma : `int`, optional (default = `1`)
        Two numbers:
        * one
        * two
    delta
        See `Base`.

    A library's own: https://example.org

    # Raises

    `ValueError` for an `alpha` of 0.
    """


def test_our_docstrings() -> None:
    documentation = read_docstring(OURS)
    assert documentation.summary == "Mixes two images."
    assert documentation.example == '{ type: "thing", alpha: 1 }'
    assert documentation.parameters == {
        "alpha": "How much of the second image.\nAbove 0.",
        "beta": "Two numbers:\n* one\n* two",
        "gamma": "Two numbers:\n* one\n* two",
        "delta": "See `Base`.",
    }
    assert documentation.notes == "A library's own: https://example.org"
    assert documentation.body.startswith("Mixes two images. They are of one batch:\nthe second is")
    assert documentation.body.endswith("# Raises\n\n`ValueError` for an `alpha` of 0.")
    for left_out in ("Those of", "How much", "jsonnet", "# Example", "# Parameters"):
        assert left_out not in documentation.body


def test_the_docstrings_of_libraries() -> None:
    adamw = read_docstring(torch.optim.AdamW.__doc__).parameters
    assert adamw["weight_decay"] == "weight decay coefficient (default: 1e-2)"
    assert adamw["betas"].startswith("coefficients used for computing running averages of gradient")
    assert ".." not in adamw["fused"], "the notes after it are not about `fused`"
    lamb = read_docstring(timm.optim.Lamb.__doc__).parameters
    assert lamb["lr"].startswith("Learning rate")


def test_summaries() -> None:
    assert read_docstring("Takes `a` (Smith et al. 2018, x) and b. More.").summary == (
        "Takes `a` (Smith et al. 2018, x) and b."
    )
    assert read_docstring("What is read is:\n\n* one").summary == "What is read is."
    assert read_docstring("See [the page](https://example.org/a).").summary == "See the page."
    assert read_docstring("See [a] (https://example.org/a)'s :class:`x.y.B`.").summary == (
        "See a's `B`."
    )
    assert read_docstring("Erases pixels. 'A Title' by Zhong et al. See it.").summary == (
        "Erases pixels."
    )
    assert read_docstring("By Zhong et al. In 2017. More.").summary == "By Zhong et al. In 2017."
    assert (
        read_docstring('Registered as a `X` with name "y".\n\nSays more.').summary == "Says more."
    )
    assert read_docstring("# Parameters\n\na : `int`\n    A number.").summary == ""
    assert read_docstring(None).summary == ""
