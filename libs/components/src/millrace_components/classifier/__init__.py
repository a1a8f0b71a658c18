"""An image classifier: a small convolutional network on the class folders of a dataset version.

Run as `python -m millrace_components.classifier`. What it reads, by folder of the version:

    train/<class>/*.png                  trained on
    holdout/<class>/*.png                never trained on: validation, evaluation, and the drift reference by default
    reference/<incident>/<class>/*.png   labelled rows that were drawn at random from production during an incident;
                                         trained on too, and the newest incident's rows are the drift reference

What it leaves in its run folder:

    checkpoints/epoch-0007/   model.keras and state.json, whole or not at all
    model/                    the package: model.keras, model.onnx, package.json, golden.json
    reference.json            the drift reference (`millrace.reference`)

A run that finds `checkpoint/` there continues from it, bit for bit as if it had never stopped. SIGTERM makes it
write a checkpoint and exit with 75 ("try me again").
"""

import os

# TensorFlow and Keras read these when they are imported, so they are set before any module of this package is.

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
