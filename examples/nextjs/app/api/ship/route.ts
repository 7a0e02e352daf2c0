import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { signedIn } from "../../session";

const sqs = new SQSClient({});

export async function POST(request: Request) {
  const user = await signedIn();
  if (!user) return new Response(null, { status: 401 });
  const { orderId } = await request.json();
  // Here your database learns of it. Then:
  const job = { version: 1, id: crypto.randomUUID(), to: { user }, event: "order:shipped", data: { orderId } };
  await sqs.send(
    new SendMessageCommand({ QueueUrl: process.env.WEBSOCKET_FANOUT_QUEUE_URL, MessageBody: JSON.stringify(job) }),
  );
  return Response.json({ id: job.id });
}
