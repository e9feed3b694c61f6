import numpy as np
import pytest
from transformers import AutoModel, AutoTokenizer

from palate.testing.tiny_bert import make_tiny_bert


def test_any_loader_reads_it(tmp_path):
    folder = make_tiny_bert(
        tmp_path / "new" / "folder", hidden_size=24, n_layers=3, max_length=17, words=["lamp"]
    )
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (24, 3)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 17
    ids = tokenizer("A lamp, ok!")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "[CLS]",
        "a",
        "lamp",
        ",",
        "o",
        "##k",
        "!",
        "[SEP]",
    ]
    assert tokenizer.pad_token_id == 0 and tokenizer.unk_token_id == 1


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "vocab.txt", "tokenizer.json"]
)
def test_equal_arguments_write_equal_files(tmp_path, name):
    first, again = make_tiny_bert(tmp_path / "a"), make_tiny_bert(tmp_path / "b")
    assert (first / name).read_bytes() == (again / name).read_bytes()


def test_the_seed_changes_the_weights_only(tmp_path):
    first, other = make_tiny_bert(tmp_path / "a"), make_tiny_bert(tmp_path / "b", random_state=1)
    assert (first / "config.json").read_bytes() == (other / "config.json").read_bytes()
    weights = [
        AutoModel.from_pretrained(f).embeddings.word_embeddings.weight for f in (first, other)
    ]
    assert not np.allclose(weights[0].detach(), weights[1].detach())
