from leptonai.core.states import RUN_MOVES, RunState


def test_every_state_says_where_it_leads_and_three_lead_nowhere() -> None:
    assert set(RUN_MOVES) == set(RunState)
    assert {state for state in RunState if state.ended} == {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


def test_from_every_state_an_end_can_be_reached() -> None:
    for state in RunState:
        seen, ahead = {state}, [state]
        while ahead:
            new = RUN_MOVES[ahead.pop()] - seen
            seen |= new
            ahead += new
        assert any(found.ended for found in seen)
