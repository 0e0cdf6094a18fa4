import httpx
from pydantic import BaseModel

from minuet import Context, Rejection, Service, action, compensation, injected, outside


class Label(BaseModel):
    number: str


class AddressUnknown(Rejection): ...


class ParcelApi(Service):
    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    @action(rejects=(AddressUnknown,), outside=outside(idempotency="key"))
    async def book(self, address: str, *, context: Context = injected()) -> Label:
        key = {"Idempotency-Key": context.op_key}  # the same at every attempt, kept before the first
        answer = await self.http.post("/labels", json={"address": address}, headers=key)
        if answer.status_code == 422:
            raise AddressUnknown  # definite: nothing was done
        answer.raise_for_status()  # anything else is unknown: the same request is sent again
        return Label.model_validate_json(answer.content)

    @compensation(book, outside=outside(idempotency="key"))
    async def void(self, label: Label, *, context: Context = injected()) -> None:
        key = {"Idempotency-Key": context.op_key}
        (await self.http.delete(f"/labels/{label.number}", headers=key)).raise_for_status()
