// Periodically verify connection is alive
setInterval(() => {
  if (client.ws.readyState !== WebSocket.OPEN) {
    console.log("Connection lost, reconnecting...");
    connectWithRetry();
  }
}, 5000);
