"""The programs of the original's documentation, as its users have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wrapper.desk import Desk, desk_at

PIPELINE = """
from typing import Any, List

from gptflow import GPTWrapper

def example_func(pid: int, wrapper: GPTWrapper, data_chunk: List[Any], *args, **kwargs):
    results = []
    for item in data_chunk:
        result = {{}}
        response = wrapper.completions_with_backoff(
            engine=kwargs.get('model', 'gpt-4-0125-preview'),
            messages=[
                {{
                    'role': 'system',
                    'content': item['system_prompt']
                }},
                {{
                    'role': 'user',
                    'content': item['prompt']
                }}
            ],
            temperature=kwargs.get('temperature', 0.7)
            )
        result['response'] = response
        result['prompt'] = item['prompt']
        results.append(result)
    return results

if __name__ == '__main__':
    config_path = './config.json'
    data = [{{'system_prompt': 'Echo.', 'prompt': str(i)}} for i in range(11)]
    kwargs = {{'model': 'gpt-4', 'temperature': 0}}
    results = GPTWrapper.{call}(
        config_path=config_path,
        {count}=3,
        data=data,
        func=example_func,
        kwargs=kwargs
        )
    print([(result['prompt'], result['response']) for result in results])
"""

SINGLE_ROUND = """
from gptflow import GPTWrapper

if __name__ == '__main__':
    prompts = ['one', 'two', 'three']
    GPTWrapper.{call}(
        config_path='./config.json',
        engine='gpt-4',
        {count}=2,
        system_prompts=[None] * len(prompts),
        prompts=prompts,
        fout='out.jsonl',
        temperature=0.7,
        max_tokens=2048
        )
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path, keys=3) as desk:
        yield desk


@pytest.mark.parametrize(
    ("call", "count"),
    [
        ("multi_process_pipeline", "process_num"),
        ("multi_thread_pipeline", "threads_num"),
    ],
)
def test_the_pipeline_of_the_documentation_runs_as_written(
    desk: Desk, call: str, count: str
) -> None:
    said = desk.run(PIPELINE.format(call=call, count=count))
    assert said.strip() == str([(str(i), str(i)) for i in range(11)])


@pytest.mark.parametrize(
    ("call", "count"),
    [
        ("single_round_multi_thread", "threads_num"),
        ("single_round_multi_process", "process_num"),
    ],
)
def test_the_single_round_of_the_documentation_runs_as_written(
    desk: Desk, call: str, count: str
) -> None:
    desk.run(SINGLE_ROUND.format(call=call, count=count))
    texts = (desk.folder / "out.jsonl").read_text().splitlines()
    assert [json.loads(text) for text in texts] == [
        {"id": at, "system_prompt": None, "prompt": prompt, "response": prompt}
        for at, prompt in enumerate(["one", "two", "three"])
    ]
    assert list(desk.folder.glob("worker*")) == []
