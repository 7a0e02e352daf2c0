// The three handlers as LandingHub has them: a token on $connect, one table, rooms as a list in each row, answers
// posted to the connection. With REPLY=return the answers are returned, over a route response.
const jwt = require("jsonwebtoken");
const { DynamoDBClient } = require("@aws-sdk/client-dynamodb");
const { ApiGatewayManagementApiClient, PostToConnectionCommand } = require("@aws-sdk/client-apigatewaymanagementapi");
const { DynamoDBDocumentClient, PutCommand, DeleteCommand, UpdateCommand } = require("@aws-sdk/lib-dynamodb");

const table = process.env.WEBSOCKET_CONNECTIONS_TABLE;
const client = new DynamoDBClient({ endpoint: process.env.DYNAMODB_ENDPOINT, region: "us-east-1" });
const dynamodb = DynamoDBDocumentClient.from(client);
const api = new ApiGatewayManagementApiClient({ endpoint: process.env.CALLBACK_URL, region: "us-east-1" });

exports.connect = async (event) => {
  const token = event.queryStringParameters && event.queryStringParameters.token;
  let claims;
  try {
    claims = jwt.verify(token, process.env.JWT_SECRET);
  } catch {
    return { statusCode: 401, body: "Unauthorized" };
  }
  await dynamodb.send(
    new PutCommand({
      TableName: table,
      Item: {
        connectionId: event.requestContext.connectionId,
        userId: claims.userId,
        userRole: claims.role,
        rooms: [],
        connectedAt: new Date().toISOString(),
        ttl: Math.floor(Date.now() / 1000) + 86400,
      },
    }),
  );
  return { statusCode: 200, body: "Connected" };
};

exports.disconnect = async (event) => {
  const { connectionId } = event.requestContext;
  await dynamodb.send(new DeleteCommand({ TableName: table, Key: { connectionId } }));
  return { statusCode: 200, body: "Disconnected" };
};

exports.standard = async (event) => {
  const body = JSON.parse(event.body);
  const answer = async (name, data) => {
    const text = JSON.stringify({ event: name, data, timestamp: new Date().toISOString() });
    if (process.env.REPLY === "return") return { statusCode: 200, body: text };
    const { connectionId: ConnectionId } = event.requestContext;
    await api.send(new PostToConnectionCommand({ ConnectionId, Data: text }));
    return { statusCode: 200 };
  };
  if (body.action === "ping") return answer("pong", { timestamp: Date.now() });
  if (body.action === "chat:join_room") {
    await dynamodb.send(
      new UpdateCommand({
        TableName: table,
        Key: { connectionId: event.requestContext.connectionId },
        UpdateExpression: "SET rooms = list_append(rooms, :room)",
        ExpressionAttributeValues: { ":room": [`chat_room_${body.roomId}`] },
      }),
    );
    return answer("chat:joined_room", { roomId: body.roomId, success: true });
  }
  return answer("error", { message: "Unknown action" });
};
