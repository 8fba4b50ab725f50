class ForgeSyteClient {
  constructor(baseUrl = "ws://localhost:8000") {
    this.baseUrl = baseUrl;
    this.clientId = `client_${Date.now()}`;
    this.ws = null;
    this.handlers = {
      frame_result: [],
      error: [],
      job_update: []
    };
  }

  // Connect to WebSocket
  connect() {
    return new Promise((resolve, reject) => {
      this.ws = new WebSocket(`${this.baseUrl}/ws/${this.clientId}`);
      
      this.ws.onopen = () => {
        console.log("Connected to ForgeSyte");
        resolve();
      };
      
      this.ws.onmessage = (event) => {
        const message = JSON.parse(event.data);
        this.handleMessage(message);
      };
      
      this.ws.onerror = (error) => {
        console.error("WebSocket error:", error);
        reject(error);
      };
    });
  }

  // Subscribe to topic
  subscribe(topic) {
    this.ws.send(JSON.stringify({
      type: "subscribe",
      topic: topic
    }));
  }

  // Send frame for analysis
  async sendFrame(imageData, plugin, options = {}) {
    const frameId = `frame_${Date.now()}`;
    
    // Convert image to base64
    const base64 = imageData instanceof Uint8Array 
      ? btoa(String.fromCharCode(...imageData))
      : imageData;
    
    this.ws.send(JSON.stringify({
      type: "send_frame",
      frame_id: frameId,
      image_data: base64,
      plugin: plugin,
      options: options
    }));
    
    return frameId;
  }

  // Handle incoming messages
  handleMessage(message) {
    if (message.type === "frame_result") {
      this.handlers.frame_result.forEach(handler => handler(message));
    } else if (message.type === "error") {
      this.handlers.error.forEach(handler => handler(message));
    } else if (message.type === "job_update") {
      this.handlers.job_update.forEach(handler => handler(message));
    }
  }

  // Register handlers
  onFrameResult(handler) {
    this.handlers.frame_result.push(handler);
  }

  onError(handler) {
    this.handlers.error.push(handler);
  }

  onJobUpdate(handler) {
    this.handlers.job_update.push(handler);
  }

  // Close connection
  close() {
    this.ws.close();
  }
}

// Usage
const client = new ForgeSyteClient("ws://localhost:8000");

await client.connect();
client.subscribe("job_123");

client.onFrameResult((result) => {
  console.log(`Frame ${result.frame_id} processed in ${result.processing_time_ms}ms`);
  console.log(`Result:`, result.result);
});

client.onError((error) => {
  console.error(`Error on frame ${error.frame_id}: ${error.message}`);
});

// Send frames
const imageBytes = new Uint8Array([/* ... */]);
await client.sendFrame(imageBytes, "ocr", { threshold: 0.8 });
