"""Model classes that replace SGLang's own (``SGLANG_EXTERNAL_MODEL_PACKAGE``).

SGLang takes every module of this package and uses its ``EntryClass`` instead of the class of the same name.
"""
