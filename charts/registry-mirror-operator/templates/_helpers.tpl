{{/* One operator per cluster, so its names do not depend on the release's. */}}
{{- define "registry-mirror.fullname" -}}
{{- .Values.fullnameOverride | default "registry-mirror" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "registry-mirror.selector" -}}
app.kubernetes.io/name: registry-mirror-operator
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "registry-mirror.labels" -}}
app.kubernetes.io/name: registry-mirror-operator
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "registry-mirror.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The API server by its own address, where that is given; else the kubelet's variables stand. */}}
{{- define "registry-mirror.apiServerEnv" -}}
{{- with .Values.apiServer -}}
{{- if .host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .port | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "registry-mirror.fieldEnv" -}}
- name: {{ .name }}
  valueFrom: {fieldRef: {fieldPath: {{ .path }}}}
{{- end -}}

{{/* Address and port of a listener, in brackets where the address is an IPv6 one. */}}
{{- define "registry-mirror.hostPort" -}}
{{- if contains ":" .listenAddress }}[{{ .listenAddress }}]{{ else }}{{ .listenAddress }}{{ end }}:{{ .port }}
{{- end -}}
