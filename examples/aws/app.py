# mypy: allow-any-generics
# app.py
from perdure.durable import DurableContext, Duration, durable_execution


def reserve(article: str) -> str:
    return f"{article} reserved"


@durable_execution
def order(event: dict, context: DurableContext) -> dict:
    paid = context.step(lambda _: f"card {event['card']} charged", name="charge")

    def reserving(branch: DurableContext, article: str, *_: object) -> str:
        return branch.step(lambda _: reserve(article), name=f"reserve {article}")

    reserved = context.map(event["articles"], reserving, name="reserve")
    reserved.throw_if_error()
    context.wait(Duration.from_seconds(5), name="cool-off")
    approved = context.wait_for_callback(lambda callback_id, _: print("approve with", callback_id), name="approval")
    return {"paid": paid, "reserved": reserved.get_results(), "approved": approved}
