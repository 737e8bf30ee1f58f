"""
The commands of `allencv` in groups, each with its summary. `allencv --help` shows them at once, as
this imports nothing; `allencv COMMAND --help` begins with its summary.
"""

COMMANDS = {
    "Data": {
        "check-data": "Find damaged images, copies and odd labels.",
        "show-batch": "Draw images as decoded and as the network sees them.",
        "count-instances": "Count the training instances of a config.",
        "build-vocab": "Build the vocabulary of a config.",
        "pack": "Pack images into tar shards (WebDataset), with an index.",
    },
    "Training": {
        "recipe": "Print a config to start from.",
        "fit": "Choose a config for a folder or table of images, and train.",
        "components": "Show the parts that a config can name, and their arguments.",
        "check-config": "Find all mistakes in a config, without its data.",
        "find-lr": "Suggest a learning rate.",
        "train": "Train the model of a config.",
        "sweep": "Train a config with several seeds, or in cross validation.",
        "tune": "Search for better values of a config.",
    },
    "Results": {
        "report": "Write a page about a run and the quality of its model.",
        "evaluate": "Evaluate an archive on data with labels.",
        "calibrate": "Find out when the answers of a model can be trusted.",
        "explain": "Show which areas of an image support a label (Grad-CAM).",
        "print-results": "Print the metrics of several runs as a table.",
        "diff": "Show how the weights of two checkpoints differ.",
    },
    "Trained models": {
        "predict": "Predict for each line of a JSON file with an archive.",
        "classify": "Classify images with an archive or a bundle.",
        "join": "Join the parts that jobs of classify --shard have written.",
        "embed": "Write the vectors of images by a network.",
        "review": "Label images and correct labels on a web page.",
        "search": "Find the most similar images by their vectors.",
        "export": "Export an archive as a bundle, which runs without torch.",
        "serve": "Serve an archive or a bundle over HTTP, with a web page.",
    },
}
OF_ALLENNLP = {
    "cached-path": "Cache remote files.",
    "checklist": "Test a text model with a checklist suite.",
    "push-to-hf": "Push a model to the Hugging Face Hub.",
    "test-install": "Test the installation of AllenNLP.",
}
"""The commands that only AllenNLP has; it parses their arguments itself. The help omits them."""
SUMMARIES = {name: text for commands in COMMANDS.values() for name, text in commands.items()}
SUMMARIES |= OF_ALLENNLP
